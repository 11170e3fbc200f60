"""A load ends with a result, a report, or an error: never in silence."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time

import pytest

from slo.bench.conditions import Stopper, priority_name, run_load
from slo.errors import RunError


def test_the_result_comes_back_and_the_collector_is_restored() -> None:
    async def main(_: Stopper) -> str:
        assert not gc.isenabled()
        seen.append(priority_name())
        return "done"

    seen: list[str] = []
    before = priority_name()
    assert run_load(main) == "done"
    assert gc.isenabled()
    assert priority_name() == before
    if os.geteuid() == 0 and before == "normal":
        assert seen[0] in ("real-time", "raised", "normal")


def test_an_exception_in_a_callback_ends_the_run() -> None:
    async def main(_: Stopper) -> None:
        asyncio.get_running_loop().call_later(0.01, lambda: 1 // 0)
        await asyncio.sleep(60)

    started = time.monotonic()
    with pytest.raises(RunError, match="ZeroDivisionError"):
        run_load(main)
    assert time.monotonic() - started < 5


def test_an_exception_of_the_run_itself_passes() -> None:
    async def main(_: Stopper) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_load(main)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_only_asks(number: int) -> None:
    async def main(stopper: Stopper) -> bool:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if stopper.requested:
                return True
        return False

    assert run_load(main)


def test_an_interrupt_that_comes_later_again_kills() -> None:
    async def main(_: Stopper) -> None:
        for delay in (0.01, 0.1, 1.3):
            asyncio.get_running_loop().call_later(delay, os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        run_load(main)
