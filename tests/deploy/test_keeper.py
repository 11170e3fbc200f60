"""The process beside a server: what dies comes back, what is stopped stays down. Real processes, small ones."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from slo.clock import SystemClock
from slo.config import Config
from slo.deploy.exclusive import exclusive
from slo.deploy.handover import await_keeper, end_for_restart
from slo.deploy.keeper_link import end_keeper, living_keeper, start_keeper, unit_of
from slo.deploy.process import kill_instance, spawn
from slo.deploy.restarts import answers
from slo.deploy.revive import recorded_config
from slo.deploy.state import ServerState, processes_of, read_state, write_state
from slo.deploy.status import stop
from slo.errors import StoreError
from tests.real_servers import until

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
# In place of `slo.deploy.revive`: a new server process under a new mark, as a launch makes it; or a failure.
REVIVER = """
import json, os, sys, time
from dataclasses import replace
from pathlib import Path
from slo.deploy.process import spawn
from slo.deploy.state import read_state, write_state
folder = Path(sys.argv[1])
state = read_state(folder)
assert state.instance == sys.argv[2]
with (folder / "revivals").open("a") as file:
    file.write(f"{time.time()}\\n")
if (folder / "broken").exists():
    sys.exit(7)
command = [sys.executable, "-c", state.model["code"], str(state.metrics_port)]
instance = f"test-{os.getpid()}-{time.monotonic_ns()}"
pid = spawn(command, environment=dict(os.environ), log=Path(state.log), instance=instance)
write_state(folder, replace(state, instance=instance).started(pid))
"""
KEEPER = """
import sys
from slo.deploy import exclusive, keeper
exclusive.HALTED_S = keeper.HALTED_S = 1.0
sys.exit(keeper.main([sys.argv[1], *sys.argv[3:]], reviver=(sys.executable, "-c", open(sys.argv[2]).read())))
"""


class Kept:
    """A server of a few lines with a keeper, and what can be seen of them."""

    def __init__(self, folder: Path, *, restart: bool = True) -> None:
        self.folder = folder
        self.log = folder / "log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        instance = f"test-{os.getpid()}-{time.monotonic_ns()}"
        command = [sys.executable, "-c", SERVER, str(port)]
        self.log.touch()
        pid = spawn(command, environment=dict(os.environ), log=self.log, instance=instance)
        self.instances = [instance]
        state = ServerState(
            instance=instance, endpoint=f"http://127.0.0.1:{port}", log=str(self.log), server={}, metrics_port=port,
            model={"code": SERVER}, launch={"config": {"server": {"restart": restart}}},
        ).started(pid)  # fmt: skip
        write_state(folder, state)
        until("the server is up", lambda: answers(state.endpoint, "/", timeout_s=1.0))
        self.keeper: subprocess.Popen[bytes] | None = None

    def keep(self, *options: str, reviver: str = REVIVER) -> subprocess.Popen[bytes]:
        (self.folder / "reviver.py").write_text(reviver, encoding="utf-8")
        command = [sys.executable, "-c", KEEPER, str(self.folder), str(self.folder / "reviver.py"), *options]
        self.keeper = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        until("there is a keeper", lambda: living_keeper(self.folder))
        return self.keeper

    @property
    def state(self) -> ServerState:
        state = read_state(self.folder)
        assert state is not None
        if state.instance not in self.instances:
            self.instances.append(state.instance)
        return state

    def up(self) -> bool:
        return self.state.alive and answers(self.state.endpoint, "/", timeout_s=1.0)

    def revivals(self) -> int:
        file = self.folder / "revivals"
        return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0

    def close(self) -> None:
        if self.keeper is not None:
            self.keeper.kill()
            self.keeper.wait()
        state = read_state(self.folder)
        for instance in {*self.instances, *([state.instance] if state else [])}:
            kill_instance(instance)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    server = Kept(tmp_path)
    yield server
    server.close()


def config_of(folder: Path) -> Config:
    return Config.model_validate({"state_dir": folder, "server": {"log": folder / "log"}})


def stop_of(folder: Path) -> int:
    return stop(config_of(folder), say=lambda _: None)


def test_a_killed_server_comes_back_and_the_death_is_told(kept: Kept) -> None:
    kept.keep()
    first = kept.state
    os.kill(first.pid, signal.SIGKILL)
    until("it is back", lambda: kept.state.pid != first.pid and kept.up())
    facts = until("told", lambda: (found := living_keeper(kept.folder)) and found.restarts == 1 and found)
    assert facts.failures == 1
    assert f"the server process {first.pid}" in facts.why
    until("in the log", lambda: "keeper: the server is back" in kept.log.read_text(encoding="utf-8"))
    assert processes_of(first.instance) == []


def test_what_is_left_of_a_dead_server_is_ended_before_it_starts_again(kept: Kept) -> None:
    first = kept.state
    orphan = spawn(
        [sys.executable, "-c", "import time; time.sleep(600)"], environment=dict(os.environ), log=kept.log,
        instance=first.instance,
    )  # fmt: skip
    kept.keep()
    os.kill(first.pid, signal.SIGKILL)
    until("it is back", lambda: kept.state.pid != first.pid and kept.up())
    os.waitpid(orphan, 0)
    assert not psutil.pid_exists(orphan)


def test_a_server_that_hangs_is_ended_and_comes_back(kept: Kept) -> None:
    kept.keep()
    first = kept.state
    os.kill(first.pid, signal.SIGSTOP)
    until("it is back", lambda: kept.state.pid != first.pid and kept.up(), timeout_s=60)
    facts = living_keeper(kept.folder)
    assert facts is not None and "hangs" in facts.why


def test_a_crash_loop_is_slowed_down_and_told(kept: Kept) -> None:
    (kept.folder / "broken").touch()
    kept.keep()
    os.kill(kept.state.pid, signal.SIGKILL)
    facts = until("told", lambda: (found := living_keeper(kept.folder)) and found.failures >= 3 and found, timeout_s=60)
    assert facts.next_s is not None
    assert "failed (ended by itself with code 7)" in facts.why
    assert "times in a row" in kept.log.read_text(encoding="utf-8")
    (kept.folder / "broken").unlink()
    until("back after all", kept.up, timeout_s=60)


def test_a_stop_is_final_for_the_server_and_its_keeper(kept: Kept) -> None:
    keeper = kept.keep()
    instance = kept.state.instance
    assert stop_of(kept.folder) == 1
    assert keeper.wait(timeout=60) == 0
    assert processes_of(instance) == []
    assert read_state(kept.folder) is None
    assert living_keeper(kept.folder) is None
    assert kept.revivals() == 0


def test_a_stop_during_a_crash_loop_is_final_too(kept: Kept) -> None:
    (kept.folder / "broken").touch()
    keeper = kept.keep()
    os.kill(kept.state.pid, signal.SIGKILL)
    until("it tries", lambda: kept.revivals() >= 2, timeout_s=60)
    stop_of(kept.folder)
    assert keeper.wait(timeout=60) == 0
    assert read_state(kept.folder) is None


def test_in_the_foreground_a_signal_stops_the_server_as_well(kept: Kept) -> None:
    keeper = kept.keep("--foreground")
    state = kept.state
    keeper.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert keeper.poll() is None and kept.up(), "logrotate's habit"
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(timeout=60) == 0
    assert processes_of(state.instance) == []
    assert read_state(kept.folder) is None


def test_without_restart_the_foreground_ends_with_the_server(tmp_path: Path) -> None:
    kept = Kept(tmp_path, restart=False)
    try:
        keeper = kept.keep("--foreground")
        os.kill(kept.state.pid, signal.SIGKILL)
        assert keeper.wait(timeout=30) == 2
        assert kept.revivals() == 0
    finally:
        kept.close()


def test_a_keeper_that_ends_leaves_the_server_alone_and_a_second_one_does_nothing(kept: Kept) -> None:
    keeper = kept.keep()
    start_keeper(kept.folder, kept.log)
    facts = living_keeper(kept.folder)
    assert facts is not None and facts.pid == keeper.pid
    assert end_keeper(kept.folder, SystemClock())
    assert keeper.wait(timeout=60) == 0
    assert kept.up()


def test_who_holds_the_lock_is_not_disturbed(kept: Kept) -> None:
    kept.keep()
    first = kept.state
    with exclusive(kept.folder, wait_s=5.0, clock=SystemClock(), on_wait=lambda _: None):
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(2)
        assert kept.revivals() == 0, "a launch or a stop is at work"
    until("then it is its turn", lambda: kept.state.pid != first.pid and kept.up())


LAUNCH = """
import sys
from pathlib import Path
from slo.clock import SystemClock
from slo.deploy.exclusive import exclusive, interruptible
with interruptible(), exclusive(Path(sys.argv[1]), wait_s=0.0, clock=SystemClock(), on_wait=print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_halted_launch_does_not_keep_a_dead_server_down(kept: Kept) -> None:
    kept.keep()
    first = kept.state
    command = [sys.executable, "-c", LAUNCH, str(kept.folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as launch:
        assert launch.stdout is not None
        assert launch.stdout.readline() == b"held\n"
        launch.send_signal(signal.SIGSTOP)
        os.kill(first.pid, signal.SIGKILL)
        until("it is back all the same", lambda: kept.state.pid != first.pid and kept.up())
        launch.kill()


def test_a_start_that_was_halted_is_begun_anew(kept: Kept) -> None:
    halting = (
        "import os, signal, sys\nif not (__import__('pathlib').Path(sys.argv[1]) / 'revivals').exists():\n"
        "    open(sys.argv[1] + '/revivals', 'w').close(); os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    kept.keep(reviver=halting + REVIVER)
    first = kept.state
    os.kill(first.pid, signal.SIGKILL)
    until("it is back", lambda: kept.state.pid != first.pid and kept.up())


@pytest.mark.parametrize("loss", ["removed", "damaged"])
def test_a_lost_record_is_written_again_while_the_server_runs(kept: Kept, loss: str) -> None:
    kept.keep()
    before = kept.state
    until("it has looked", (kept.folder / "keeper.json").exists)
    file = kept.folder / "server.json"
    if loss == "removed":
        file.unlink()
    else:
        file.write_text("{", encoding="utf-8")
    until("written again", lambda: file.exists() and file.stat().st_size > 10)
    assert kept.state == before
    assert kept.up()


def test_a_keeper_that_was_halted_ends_all_the_same(kept: Kept) -> None:
    keeper = kept.keep()
    until("it has looked", (kept.folder / "keeper.json").exists)
    os.kill(keeper.pid, signal.SIGSTOP)
    assert end_keeper(kept.folder, SystemClock())
    until("it is gone", lambda: living_keeper(kept.folder) is None)


def test_a_keeper_is_a_small_process(kept: Kept) -> None:
    keeper = kept.keep()
    until("it has looked", (kept.folder / "keeper.json").exists)
    assert psutil.Process(keeper.pid).memory_info().rss < 30e6


def test_the_unit_is_known_only_where_a_service_manager_started_it(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    groups = tmp_path / "7" / "cgroup"
    for text, unit in (
        ("0::/system.slice/slo-server.service\n", "slo-server.service"),
        ("12:cpu:/\n1:name=systemd:/user.slice/user-1000.slice/user@1000.service/app.slice/slo-server.service\n",
         "--user slo-server.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", ""),
    ):  # fmt: skip
        groups.write_text(text, encoding="utf-8")
        assert unit_of(7, environ={"INVOCATION_ID": "x"}, proc=tmp_path) == unit
        assert unit_of(7, environ={}, proc=tmp_path) == ""
    assert unit_of(8, environ={"INVOCATION_ID": "x"}, proc=tmp_path) == ""


def test_a_server_that_drips_its_answer_does_not_hold_the_keeper_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    for byte in b"HTTP/1.1 200 OK\r\n":
                        connection.sendall(bytes([byte]))
                        time.sleep(3)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        start_s = time.monotonic()
        assert not answers(endpoint, "/", timeout_s=0.5)
        assert time.monotonic() - start_s < 30, "the whole answer takes 51 s"


def test_the_configuration_of_a_record_is_read_by_another_version() -> None:
    data: dict[str, Any] = Config().model_dump(mode="json")
    data["server"]["of_tomorrow"] = 1
    data["of_yesterday"] = {}
    assert recorded_config(json.loads(json.dumps(data))) == Config()
    with pytest.raises(StoreError):
        recorded_config({"server": {"port": -1}})


def test_the_keeper_imports_nothing_heavy() -> None:
    code = "import slo.deploy.keeper, sys; print(sorted({'pydantic', 'requests', 'rich', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_a_restart_is_left_to_the_keeper_and_takes_the_settings_of_now(kept: Kept) -> None:
    keeper = kept.keep()
    before = kept.state
    now = config_of(kept.folder).replaced(**{"client.timeout": 7.0})
    assert end_for_restart(now)
    await_keeper(now, say=lambda _: None)
    after = kept.state
    assert after.instance != before.instance and after.alive
    assert after.launch["config"]["client"]["timeout"] == 7.0
    assert keeper.poll() is None
    assert processes_of(before.instance) == []


def test_without_a_keeper_nothing_is_ended_for_a_restart(kept: Kept) -> None:
    assert not end_for_restart(config_of(kept.folder))
    assert kept.up()


def test_a_launch_while_the_keeper_pauses_makes_it_start_at_once(kept: Kept) -> None:
    (kept.folder / "broken").touch()
    kept.keep()
    os.kill(kept.state.pid, signal.SIGKILL)
    until("it pauses", lambda: (found := living_keeper(kept.folder)) and found.failures >= 4)
    (kept.folder / "broken").unlink()
    start_s = time.monotonic()
    await_keeper(config_of(kept.folder), say=lambda _: None)
    assert kept.up()
    assert time.monotonic() - start_s < 60


def test_a_launch_does_not_wait_for_a_keeper_that_never_succeeds(kept: Kept) -> None:
    (kept.folder / "broken").touch()
    kept.keep()
    os.kill(kept.state.pid, signal.SIGKILL)
    until("it is dead", lambda: not kept.state.alive)
    said: list[str] = []
    await_keeper(config_of(kept.folder), say=said.append)
    assert "waiting for it" in said[0]
    assert "does not succeed" in said[-1]
