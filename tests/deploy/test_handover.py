"""A launch, an ordered restart and a keeper that meet: who starts the server, how soon, and what is left over."""

from __future__ import annotations

import io
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from slo.clock import SystemClock
from slo.deploy import entry, handover, server
from slo.deploy.entry import KeeperGuard
from slo.deploy.handover import await_keeper, end_for_restart
from slo.deploy.job import LaunchJob, Progress
from slo.deploy.keeper_link import end_keeper, living_keeper
from slo.deploy.machine import this_machine
from slo.deploy.server import living_server
from slo.deploy.state import halted, processes_of
from slo.deploy.subreaper import adopting
from tests.deploy.test_keeper import REVIVER, Kept, config_of, stop_of
from tests.real_servers import until


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    server = Kept(tmp_path)
    yield server
    server.close()


def fail_often(kept: Kept, times: int) -> None:
    """A server that has died and whose starts have failed, as often as asked, and that is back then."""
    (kept.folder / "broken").touch()
    os.kill(kept.state.pid, signal.SIGKILL)

    def failures() -> int:
        facts = living_keeper(kept.folder)
        if facts is not None and facts.next_s is not None:
            os.kill(facts.pid, signal.SIGUSR1)
        return facts.failures if facts else 0

    until("it fails", lambda: failures() >= times, timeout_s=60)
    (kept.folder / "broken").unlink()
    until("it is back", lambda: failures() and kept.up(), timeout_s=60)
    until("noted", lambda: (facts := living_keeper(kept.folder)) and facts.next_s is None)


def test_a_launch_right_after_a_death_waits_for_no_pause(kept: Kept) -> None:
    kept.keep()
    fail_often(kept, 5)
    before, start_s = kept.state, time.monotonic()
    os.kill(before.pid, signal.SIGKILL)  # its keeper has not noticed when the launch comes
    await_keeper(config_of(kept.folder), say=lambda _: None)
    took_s = time.monotonic() - start_s
    assert kept.up() and kept.state.instance != before.instance
    pauses = re.findall(r"started again in (\d+) s", kept.log.read_text(encoding="utf-8"))
    assert took_s < float(pauses[-1]), "as much as 16 s and more"


def test_an_ordered_restart_is_no_death_and_has_no_pause(kept: Kept) -> None:
    kept.keep()
    fail_often(kept, 3)
    told = living_keeper(kept.folder)
    assert told is not None
    for _ in range(2):
        before = kept.state
        assert end_for_restart(config_of(kept.folder))
        await_keeper(config_of(kept.folder), say=lambda _: None)
        assert kept.up() and kept.state.instance != before.instance
        assert "ordered" in kept.state.launch, "the reviver of this test copies the record; a launch does not"
    facts = living_keeper(kept.folder)
    assert facts is not None and (facts.restarts, facts.why, facts.failures) == (told.restarts, told.why, 0)


def test_a_launch_does_not_keep_the_keeper_from_ending_a_server_that_hangs(kept: Kept) -> None:
    kept.keep()
    before = kept.state
    os.kill(before.pid, signal.SIGSTOP)
    await_keeper(config_of(kept.folder), say=lambda _: None)
    assert kept.up() and kept.state.instance != before.instance
    assert processes_of(before.instance) == []


def test_a_launch_does_not_wait_for_a_keeper_that_hangs(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "HALTED_S", 1.0)
    keeper = kept.keep()
    until("it has looked", (kept.folder / "keeper.json").exists)
    os.kill(keeper.pid, signal.SIGSTOP)
    os.kill(kept.state.pid, signal.SIGKILL)
    said: list[str] = []
    await_keeper(config_of(kept.folder), say=said.append)
    assert "hangs: it is ended, launching from here" in said[-1]
    assert living_keeper(kept.folder) is None


def test_a_server_that_hangs_without_a_keeper_is_ended_by_a_launch(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HANG_S", 0.5)
    monkeypatch.setattr(server, "PATIENCE_S", 0.2)
    before = kept.state
    with ExitStack() as undo:
        job = LaunchJob(
            config=config_of(kept.folder), progress=Progress(Console(file=io.StringIO())), clock=SystemClock(),
            machine=this_machine(), undo=undo,
        )  # fmt: skip
        record = (kept.folder / "server.json").stat().st_ino
        assert living_server(job) == before, "it answers"
        assert (kept.folder / "server.json").stat().st_ino == record, "nothing is written that is there already"
        os.kill(before.pid, signal.SIGSTOP)
        until("it is halted", lambda: halted(before.pid))
        assert living_server(job) is None
    assert processes_of(before.instance) == []


def test_what_a_killed_start_has_left_is_ended_and_started_anew(kept: Kept) -> None:
    deadly = """
if (folder / "deadly").exists():
    (folder / "half").write_text(instance)
    (folder / "deadly").unlink()
    os.kill(os.getpid(), 9)
"""
    (kept.folder / "deadly").touch()
    kept.keep(reviver=REVIVER + deadly)
    before = kept.state
    os.kill(before.pid, signal.SIGKILL)
    until("a second start", lambda: kept.revivals() == 2, timeout_s=60)
    until("it is up", kept.up, timeout_s=60)
    half = (kept.folder / "half").read_text(encoding="utf-8")
    assert kept.state.instance != half, "a server without its model is not one that is back"
    assert processes_of(half) == []
    facts = living_keeper(kept.folder)
    assert facts is not None and facts.restarts == 2, "the death, and the start that failed"


def test_a_server_whose_record_is_damaged_when_it_dies_comes_back(kept: Kept) -> None:
    kept.keep()
    until("it has looked", (kept.folder / "keeper.json").exists)
    before = kept.state
    (kept.folder / "server.json").write_text("{", encoding="utf-8")
    os.kill(before.pid, signal.SIGKILL)
    until("written again", lambda: (kept.folder / "server.json").stat().st_size > 10)
    until("it is back", lambda: kept.state.instance != before.instance and kept.up(), timeout_s=60)


def test_a_stop_while_the_server_is_down_says_what_it_did(kept: Kept) -> None:
    (kept.folder / "broken").touch()
    kept.keep()
    os.kill(kept.state.pid, signal.SIGKILL)
    until("it pauses", lambda: kept.revivals() >= 2, timeout_s=60)
    assert stop_of(kept.folder) == 1


def test_a_keeper_that_was_killed_or_hangs_is_replaced_and_one_that_ended_is_not(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "HALTED_S", 1.0)
    guard = KeeperGuard(kept.folder, kept.state.instance, kept.log, SystemClock())
    other = KeeperGuard(kept.folder, "another server's", kept.log, SystemClock())
    assert not guard.look(), "there never was one"
    first = kept.keep()
    until("it has looked", (kept.folder / "keeper.json").exists)
    assert not guard.look()
    first.kill()
    first.wait()
    assert not other.look()
    with adopting(True):  # as Xinference's main process does, which takes all below it along when it ends
        assert guard.look()
        second = until("another", lambda: living_keeper(kept.folder))
        assert psutil.Process(second.pid).ppid() != os.getpid()
    until("it has looked", lambda: (facts := living_keeper(kept.folder)) and facts.pid == second.pid)
    try:
        os.kill(second.pid, signal.SIGSTOP)
        third = until(
            "another",
            lambda: (guard.look(), facts := living_keeper(kept.folder)) and facts and facts.pid != second.pid and facts,
        )
        assert kept.up()
    finally:
        end_keeper(kept.folder, SystemClock())
    assert third.pid != second.pid
    assert not guard.look(), "ended on purpose"
    assert living_keeper(kept.folder) is None
