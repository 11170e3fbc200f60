"""Forked processes are like started ones: exit codes, signals, output, environment; and nothing outlives its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TARGET = Path(__file__).with_name("fork_target.py")


class Main:
    """A process with a fork server, spoken to in lines of JSON."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploy.fork_program", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"MARK": "here"},
        )  # fmt: skip
        self.server = int(self.hear()["server"])

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def ask(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def end(self) -> str:
        """What it has written to stderr."""
        return self.process.communicate(timeout=30)[1]


@pytest.fixture
def script(tmp_path: Path) -> str:
    file = tmp_path / "start_local.py"
    file.write_text(TARGET.read_text(encoding="utf-8"), encoding="utf-8")
    return str(file)


@pytest.fixture
def main() -> Iterator[Main]:
    started = Main()
    yield started
    if started.process.poll() is None:
        started.end()


Start = Callable[..., int]


@pytest.fixture
def start(main: Main, script: str) -> Start:
    def starter(*arguments: str, **order: Any) -> int:
        return int(main.ask(do="start", script=script, arguments=arguments, **order)["pid"])

    return starter


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def told(main: Main, pid: int) -> dict[str, Any]:
    answer = main.ask(do="wait", pid=pid)
    assert answer["code"] == 0
    found: dict[str, Any] = json.loads(answer["output"])
    return found


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_comes_back(main: Main, start: Start, code: int) -> None:
    assert main.ask(do="wait", pid=start("exit", str(code)))["code"] == code


def test_an_exception_ends_with_a_traceback_and_code_1(main: Main, start: Start) -> None:
    assert main.ask(do="wait", pid=start("raise"))["code"] == 1
    assert "RuntimeError: on purpose" in main.end()


def test_a_signal_reaches_the_program_itself(main: Main, start: Start) -> None:
    pid = start("term", pipe=True)
    until(lambda: b"python" in Path(f"/proc/{pid}/comm").read_bytes() and _handles(pid, signal.SIGTERM))
    os.kill(pid, signal.SIGTERM)
    assert main.ask(do="wait", pid=pid)["code"] == 42


def test_a_killed_process_is_reported_as_killed(main: Main, start: Start) -> None:
    pid = start("sleep")
    os.kill(pid, signal.SIGKILL)
    assert main.ask(do="wait", pid=pid)["code"] == -signal.SIGKILL


def test_it_is_a_direct_child_with_a_life_of_its_own(main: Main, start: Start, tmp_path: Path) -> None:
    pid = start("tell", "a", pipe=True, cwd=str(tmp_path))
    found = told(main, pid)
    assert (found["pid"], found["parent"], found["forked"]) == (pid, main.process.pid, True)
    assert (found["main"], found["argv"]) == ("__main__", ["tell", "a"])
    assert found["cwd"] == str(tmp_path)
    assert (found["sid"], found["group"]) == (os.getsid(main.process.pid), os.getpgid(main.process.pid))
    # The second thread watches a fork server of its own.
    assert (found["sigint"], found["blocked"], found["threads"]) == ("default_int_handler", 0, 2)
    assert found["random"] != told(main, start("tell", pipe=True))["random"]


def test_no_descriptor_of_the_fork_server_is_left_open(main: Main, start: Start) -> None:
    first, second = (len(told(main, start("tell", pipe=True))["fds"]) for _ in range(2))
    assert first == second <= 5, "three of its own, its fork server's, and the listing itself"


def test_the_environment_applies(main: Main, start: Start) -> None:
    assert told(main, start("tell", pipe=True))["value"] is None
    found = told(main, start("tell", pipe=True, env={"XINFERENCE_MODEL_UID": "m"}))
    assert (found["forked"], found["value"]) == (True, "m")


def test_the_kernel_still_shows_the_mark_of_the_instance(main: Main, start: Start) -> None:
    pid = start("sleep", env={"XINFERENCE_MODEL_UID": "m"})
    until(lambda: b"python" in Path(f"/proc/{pid}/comm").read_bytes())
    for process in (main.process.pid, main.server, pid):
        assert psutil.Process(process).environ()["MARK"] == "here", "or stopping would not find it"
    os.kill(pid, signal.SIGKILL)
    main.ask(do="wait", pid=pid)


def test_a_title_can_still_be_set(main: Main, start: Start) -> None:
    pytest.importorskip("setproctitle")
    assert told(main, start("title", pipe=True, env={"XINFERENCE_MODEL_UID": "m"}))["shown"] == "a title"


def test_what_libraries_read_at_import_needs_a_fresh_interpreter(main: Main, start: Start) -> None:
    found = told(main, start("tell", pipe=True, env={"OMP_NUM_THREADS": "3"}))
    assert (found["forked"], found["omp"]) == (False, "3")
    assert "these variables differ: OMP_NUM_THREADS" in main.end()


def test_many_at_once_and_no_zombie_is_left(main: Main, script: str) -> None:
    assert main.ask(do="burst", script=script, count=12)["codes"] == list(range(12))
    until(lambda: [p.pid for p in psutil.Process(main.process.pid).children(recursive=True)] == [main.server])


def test_without_its_fork_server_main_starts_processes_as_ever(main: Main, start: Start) -> None:
    os.kill(main.server, signal.SIGKILL)
    until(lambda: gone(main.server))
    assert told(main, start("tell", pipe=True))["forked"] is False
    assert "a fresh interpreter instead of a forked one" in main.end()


def test_a_killed_main_takes_its_fork_server_along(main: Main) -> None:
    main.process.kill()
    main.process.wait()
    until(lambda: gone(main.server))
    main.end()


def test_a_fork_server_that_ends_leaves_its_processes_alone(main: Main, start: Start) -> None:
    pid = start("sleep")
    os.kill(main.server, signal.SIGKILL)
    until(lambda: gone(main.server))
    assert not gone(pid)
    os.kill(pid, signal.SIGTERM)
    assert main.ask(do="wait", pid=pid)["code"] == -signal.SIGTERM


def test_no_fork_beside_a_thread() -> None:
    main = Main("thread")
    assert main.server == 0
    assert "no fork server, threads run" in main.end()


def _handles(pid: int, number: int) -> bool:
    (caught,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_dead_fork_server_is_replaced(main: Main, start: Start) -> None:
    for _ in range(2):
        before = int(main.ask(do="server")["server"])
        os.kill(before, signal.SIGKILL)
        until(lambda old=before: int(main.ask(do="server")["server"]) not in (0, old))  # type: ignore[misc]
        found = told(main, start("tell", pipe=True))
        assert (found["forked"], found["parent"]) == (True, main.process.pid)
        assert gone(before)
    replaced = int(main.ask(do="server")["server"])
    assert "another one takes its place" in main.end()
    until(lambda: gone(replaced))
