"""What is done about unfit processes: a lane on a manual clock, and real processes for those that are ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slo.clock import ManualClock
from slo.serve.door.batcher import ReplicaLost
from slo.serve.door.cache import Cache
from slo.serve.door.lane import Lane
from slo.serve.door.liveness import TICK_S, Liveness
from slo.serve.door.problem import Problem
from slo.serve.engine.model_process import ModelProcess
from slo.serve.telemetry.telemetry import Telemetry
from slo.settings_serve import ServeSection
from tests.serve.fakes import FakeReplica

WAIT = "import time\nprint('up', flush=True)\ntime.sleep(600)"
SPIN = "print('up', flush=True)\nwhile True: pass"


class Patient(FakeReplica):
    """A replica whose status and passes can be held up."""

    def __init__(self, uid: str, port: int, **status: Any) -> None:
        super().__init__(uid, port, self._take, **status)
        self.hung = False
        self.fault: Exception | None = None

    def _take(self, _: int, __: list[str]) -> float | Exception:
        return 3600.0 if self.hung else self.fault or 0.0

    async def refresh_status(self) -> None:
        if self.hung:
            await asyncio.sleep(3600)


class Ward:
    """A lane with its liveness, on a clock of its own."""

    def __init__(self, *replicas: Patient) -> None:
        self.clock = ManualClock(monotonic_s=1000.0)
        self.telemetry = Telemetry(self.clock.monotonic)
        self.lane = Lane("m", ServeSection(), Cache(0), self.telemetry, lambda: 1, on_lost=lambda: None)
        self.lane.states = {replica.identity[0]: "READY" for replica in replicas}
        self.lane.update(replicas)
        self.liveness = Liveness(self.lane, self.telemetry, patience_s=8.0)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.clock.advance(TICK_S)
            self.liveness.look()
            for _ in range(6):
                await asyncio.sleep(0)

    def ask(self, text: str) -> asyncio.Future[None]:
        return self.lane.batcher.submit([text], [20], online=True).future

    @property
    def serving(self) -> list[str]:
        return [replica.identity[0] for replica in self.lane.batcher.replicas]


@pytest.fixture
def program() -> Iterator[Any]:
    """Starts Python programs that say when they are up; ends them."""
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        own = ModelProcess.own()
        assert own is not None
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii")
        ticks = int(stat.rpartition(")")[2].split()[19])
        while text == WAIT and Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").split()[2] != "S":
            time.sleep(0.001)
        return process, {"process": replace(own, pid=process.pid, start_ticks=ticks).to_json()}

    yield start
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop it, and wait until the kernel says so: no real time passes while the manual clock runs."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), 30)


async def test_a_stopped_process_is_set_aside_then_ended_and_its_texts_go_to_the_other(program: Any) -> None:
    process, status = program(WAIT)
    hung, well = Patient("hung", 1, **status), Patient("well", 2)
    ward = Ward(hung, well)
    await ward.pass_time(2)
    stop(process)
    hung.hung = True
    waiting = [ward.ask(f"t{i}") for i in range(8)]
    await ward.pass_time(3.5)
    assert ward.serving == ["well"]
    assert process.poll() is None
    assert sum(future.done() for future in waiting) == 8 - len(hung.calls[0]), "all but those that may be why it hangs"
    await ward.pass_time(5.5)
    assert await ended(process) == -signal.SIGKILL
    ward.lane.update([well, Patient("hung", 9)])
    await asyncio.gather(*waiting)
    await ward.liveness.close()
    await ward.lane.batcher.close()


async def test_with_a_single_replica_clients_are_told_to_come_back_at_once(program: Any) -> None:
    process, status = program(WAIT)
    only = Patient("only", 1, **status)
    ward = Ward(only)
    await ward.pass_time(1)
    stop(process)
    only.hung = True
    early = ward.ask("early")
    await ward.pass_time(3)
    with pytest.raises(Problem) as caught:
        ward.ask("later")
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "5")
    assert not early.done(), "it may still come back"
    await ward.pass_time(7)
    assert await ended(process) == -signal.SIGKILL
    assert isinstance(early.exception(), Problem)
    fresh = Patient("only", 9)
    ward.lane.update([fresh])
    await ward.pass_time(1)
    assert ward.serving == ["only"]
    await ward.liveness.close()


async def test_a_process_that_still_computes_is_given_more_time(program: Any) -> None:
    process, status = program(SPIN)
    busy = Patient("busy", 1, **status)
    ward = Ward(busy)
    busy.hung = True
    for _ in range(30):  # its processor time must be seen to pass: real time, a little
        await ward.pass_time(TICK_S)
        await asyncio.sleep(0.05)
    assert process.poll() is None
    busy.hung = False
    ward.lane.health.answered(busy.identity, ward.clock.monotonic())
    await ward.pass_time(1)
    assert ward.serving == ["busy"], "it serves again"
    await ward.liveness.close()


async def test_a_process_elsewhere_is_ended_by_its_worker() -> None:
    elsewhere = {"process": {"pid": os.getpid(), "start_ticks": 1, "boot_id": "another host", "space": "pid:[1]"}}
    far = Patient("far", 1, **elsewhere)
    ward = Ward(far)
    far.hung = True
    await ward.pass_time(19)
    assert not far.ended
    await ward.pass_time(3)
    await asyncio.sleep(0.05)
    assert far.ended
    await ward.liveness.close()


async def test_a_replica_that_fails_on_everything_is_tested_and_ended(program: Any) -> None:
    process, status = program(WAIT)
    broken = Patient("broken", 1, **status)
    broken.fault = RuntimeError("CUDA error: an illegal memory access was encountered")
    ward = Ward(broken, Patient("well", 2))
    for index in range(12):
        await ward.ask(f"t{index}")
    await ward.pass_time(2)
    assert ward.serving == ["well"]
    assert await ended(process) == -signal.SIGKILL
    await ward.liveness.close()


async def test_a_replica_that_fails_on_some_texts_passes_the_test_and_stays(program: Any) -> None:
    process, status = program(WAIT)

    class Picky(Patient):
        def _take(self, _: int, texts: list[str]) -> float | Exception:
            return ValueError("bad") if any("bad" in text for text in texts) else 0.0

    picky = Picky("picky", 1, **status)
    ward = Ward(picky)
    for index in range(20):
        with pytest.raises(Problem):
            await ward.ask(f"bad{index}")
        await ward.pass_time(TICK_S)
    await ward.pass_time(1)
    assert ward.serving == ["picky"]
    assert process.poll() is None
    await ward.liveness.close()


async def test_a_silent_process_that_never_told_its_status_is_ended_by_its_worker() -> None:
    silent = Patient("silent", 1)
    silent.hung = True
    ward = Ward(Patient("well", 2))
    ward.lane.update(ward.lane.replicas, [silent])
    await ward.pass_time(22)
    await asyncio.sleep(0.05)
    assert silent.ended
    assert ward.serving == ["well"]
    await ward.liveness.close()


def test_only_the_very_process_is_ended(program: Any) -> None:
    process, status = program(WAIT)
    told = ModelProcess.from_status(status)
    assert told is not None
    for other in (
        replace(told, start_ticks=told.start_ticks - 1),
        replace(told, boot_id="00000000-0000-0000-0000-000000000000"),
        replace(told, space="pid:[1]"),
        replace(told, pid=2**22 + 1),
    ):
        assert not other.end()
        assert other.activity() is None
    assert process.poll() is None
    activity = told.activity()
    assert activity is not None
    assert activity.state in "RS"
    assert told.end()
    assert process.wait(30) == -signal.SIGKILL
    assert not told.end(), "it has ended"


@pytest.mark.parametrize("status", [{}, {"process": None}, {"process": {"pid": "x"}}, {"process": [1]}])
def test_a_status_that_tells_no_process_ends_none(status: dict[str, Any]) -> None:
    assert ModelProcess.from_status(status) is None


async def test_a_lost_status_is_no_answer() -> None:
    class Gone(Patient):
        async def refresh_status(self) -> None:
            raise ReplicaLost("gone")

    ward = Ward(Gone("gone", 1))
    await ward.pass_time(4)
    assert ward.serving == []
    await ward.liveness.close()


async def test_a_hung_process_that_the_host_lists_no_more_is_ended_too_since_the_host_waits_for_it(
    program: Any,
) -> None:
    process, status = program(WAIT)
    hung = Patient("hung", 1, **status)
    ward = Ward(hung)
    await ward.pass_time(1)
    stop(process)
    hung.hung = True
    ward.lane.update([])  # somebody stops the model: its state is "stopping" until the process answers
    await ward.pass_time(10)
    assert await ended(process) == -signal.SIGKILL
    await ward.pass_time(1)
    assert ward.lane.watched == [], "gone is gone"
    await ward.liveness.close()


async def test_a_process_that_is_stopped_in_good_order_is_not_ended_and_forgotten_once_it_is_gone(
    program: Any,
) -> None:
    process, status = program(WAIT)
    leaving = Patient("leaving", 1, **status)
    ward = Ward(leaving, Patient("stays", 2))
    ward.lane.health.left(leaving.identity, ward.clock.monotonic())
    ward.lane.update([replica for replica in ward.lane.replicas if replica is not leaving])
    await ward.pass_time(60)
    assert process.poll() is None
    process.terminate()
    await ended(process)
    await ward.pass_time(1)
    assert [replica.identity[0] for replica in ward.lane.watched] == ["stays"]
    await ward.liveness.close()
