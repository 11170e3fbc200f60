"""Processes are known by pid and start time, found with all their descendants, and stopped without touching others."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from slo.clock import ManualClock
from slo.deploy.process import append_log, ensure_running, kill_instance, log_tail, open_log, spawn, stop_instance
from slo.deploy.state import (
    ServerState,
    forget_state,
    memory_of,
    processes_of,
    read_state,
    write_state,
)
from slo.errors import EnvironmentProblem, StartError, StoreError

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); {SLEEPER}"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
# Hides its environment, as a process does that writes a title over it.
TITLED = f"import os; os.environ.clear(); os.execve(sys.executable, [sys.executable, '-c', {SLEEPER!r}], {{}})"
PARENT_OF_TITLED = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {'import sys; ' + TITLED!r}]); {SLEEPER}"
)

# As Xinference's main process: on a signal it waits for its children, of which the tracker ignores all signals.
WAITING = """
import signal, sys, time
from multiprocessing import resource_tracker
resource_tracker.ensure_running()
import os
def stop(*_):
    os.waitpid(resource_tracker._resource_tracker._pid, 0)
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
print("up", flush=True)
time.sleep(60)
"""

Start = Callable[[str], ServerState]


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    instances: list[str] = []

    def run(code: str) -> ServerState:
        instance = f"test-{os.getpid()}-{len(instances)}-{time.monotonic_ns()}"
        instances.append(instance)
        log = tmp_path / "log"
        offset = open_log(log, "start")
        pid = spawn([sys.executable, "-c", code], environment=dict(os.environ), log=log, instance=instance)
        lines = 2 if "subprocess" in code else 1
        until(lambda: log.read_bytes()[offset:].count(b"up\n") == lines)
        return ServerState(instance=instance, endpoint="http://x", log=str(log), server={}).started(pid)

    yield run
    for instance in instances:
        kill_instance(instance)


def test_a_started_process_is_detached_marked_and_writes_to_the_log(start: Start) -> None:
    state = start(SLEEPER)
    assert state.alive
    assert os.getsid(state.pid) == state.pid
    assert [process.pid for process in processes_of(state.instance)] == [state.pid]
    assert memory_of(processes_of(state.instance)) > 10**6
    assert "up" in log_tail(Path(state.log))


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(SLEEPER, id="one process"),
        pytest.param(PARENT, id="with a child"),
        pytest.param(PARENT_OF_TITLED, id="with a child that hides its environment"),
        pytest.param(STUBBORN, id="one that ignores the signal"),
        pytest.param(WAITING, id="one that waits for a resource tracker"),
    ],
)
def test_stop_ends_everything_that_was_started(start: Start, code: str) -> None:
    state, other = start(code), start(SLEEPER)
    expected = 2 if "subprocess" in code or "resource_tracker" in code else 1
    assert stop_instance(state, timeout_s=1.0) == expected
    assert processes_of(state.instance) == []
    assert other.alive, "somebody else's process is left alone"
    assert stop_instance(state, timeout_s=1.0) == 0


def test_orphans_of_a_killed_server_are_found_and_stopped(start: Start) -> None:
    state = start(PARENT)
    psutil.Process(state.pid).kill()
    until(lambda: not state.alive)
    assert len(processes_of(state.instance)) == 1
    assert stop_instance(state, timeout_s=5.0) == 1


def test_a_pid_that_is_used_again_is_not_our_server(start: Start) -> None:
    state = start(SLEEPER)
    earlier = replace(state, instance="gone", start_ticks=state.start_ticks - 1)
    before_the_boot = replace(state, instance="gone", boot_id="of yesterday")
    of_an_older_version = old(replace(state, instance="gone", created_s=state.created_s - 100.0))
    for stranger in (earlier, before_the_boot, of_an_older_version):
        assert not stranger.alive
        assert stop_instance(stranger, timeout_s=1.0) == 0
    assert state.alive


def old(state: ServerState) -> ServerState:
    """The record of a version that knew the time of day only."""
    return replace(state, start_ticks=0, boot_id="")


@pytest.mark.parametrize("step_s", [-3600.0, -0.5, 0.5, 3600.0])
def test_a_server_lives_on_when_the_clock_is_set(start: Start, monkeypatch: pytest.MonkeyPatch, step_s: float) -> None:
    state = start(SLEEPER)
    boot_s = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_s + step_s)
    assert abs(psutil.Process(state.pid).create_time() - state.created_s - step_s) < 0.02, "the clock was set"
    assert state.alive
    assert old(state).alive, "of an older version: known by its mark"
    ensure_running(state, 0)
    psutil.Process(state.pid).kill()
    until(lambda: not state.alive)
    assert not old(state).alive


def test_a_record_of_an_older_version_is_read(start: Start, tmp_path: Path) -> None:
    state = start(PARENT)
    write_state(tmp_path, old(state))
    file = tmp_path / "server.json"
    fields = json.loads(file.read_text(encoding="utf-8"))
    del fields["start_ticks"], fields["boot_id"]
    file.write_text(json.dumps(fields), encoding="utf-8")
    again = read_state(tmp_path)
    assert again == old(state)
    assert again.alive
    (child,) = psutil.Process(state.pid).children()
    assert not replace(again, pid=child.pid, created_s=0.0).alive, "a child of the server is not the server"


def test_without_proc_the_time_of_day_must_do(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slo.deploy.state._BOOT_ID", Path("/none"))
    state = start(SLEEPER)
    assert state == old(state)
    assert state.alive
    assert not replace(state, instance="gone", created_s=state.created_s - 1.0).alive


def test_a_dead_server_is_reported_with_the_end_of_its_log(start: Start) -> None:
    state = start("print('up', flush=True); raise SystemExit('out of luck')")
    until(lambda: not state.alive)
    with pytest.raises(StartError, match="ended unexpectedly") as caught:
        ensure_running(state, 0)
    assert "out of luck" in str(caught.value)


def test_the_tail_starts_at_this_launch_and_is_short(tmp_path: Path) -> None:
    log = tmp_path / "log"
    append_log(log, "yesterday's trouble")
    offset = open_log(log, "today")
    with log.open("a", encoding="utf-8") as file:
        file.writelines(f"line {n}\n\n" for n in range(40))
    tail = log_tail(log, offset).splitlines()
    assert len(tail) == 15
    assert tail[-1] == "line 39"
    assert "yesterday" not in log_tail(log, offset)
    assert log_tail(tmp_path / "none") == ""


@pytest.mark.parametrize(
    "place", [pytest.param("/dev/full", id="no space"), pytest.param("/proc/none/log", id="no such place")]
)
def test_a_log_that_cannot_be_written_is_named(place: str) -> None:
    with pytest.raises(EnvironmentProblem, match=f"{place}: the log cannot be written"):
        open_log(Path(place), "start", ManualClock())


def test_the_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    state = ServerState(instance="i", endpoint="e", log="l", server={"port": 1}, pid=2, created_s=3.5)
    assert read_state(tmp_path) is None
    write_state(tmp_path, state.with_model({"name": "m"}))
    again = read_state(tmp_path)
    assert again == state.with_model({"name": "m"})
    forget_state(tmp_path)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("{", id="half written"),
        pytest.param('{"format": 99}', id="of another version"),
        pytest.param("[]", id="a list"),
        pytest.param('{"format": 1, "pid": 1}', id="incomplete"),
    ],
)
def test_an_unreadable_record_is_an_error_not_a_guess(tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=r"server\.json"):
        read_state(tmp_path)


def test_what_is_started_does_not_hold_files_of_who_started_it(tmp_path: Path, start: Start) -> None:
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        state = start(SLEEPER)
        held = {os.path.realpath(entry) for entry in Path(f"/proc/{state.pid}/fd").iterdir()}
    assert str(tmp_path / "lock") not in held


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, by hand or by the kernel"),
        ("raise SystemExit(3)", "by itself with code 3"),
    ],
)
def test_how_a_server_ended_is_told_though_its_log_says_nothing(start: Start, code: str, words: str) -> None:
    state = start(f"print('up', flush=True); {code}")
    until(lambda: not state.alive)
    with pytest.raises(StartError, match=words):
        ensure_running(state, Path(state.log).stat().st_size)
