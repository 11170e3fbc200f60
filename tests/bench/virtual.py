"""Virtual time: an event loop that jumps to its next timer, a clock that reads it, and services made of formulas."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import TypeVar

from slo.bench.exchange import Exchange

T = TypeVar("T")
WALL_S = 1_700_000_000.0


class _Jump(selectors.SelectSelector):
    """Never waits: moves the loop's time instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing will ever happen"
            self.loop.now_s += max(0.0, timeout)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Hours pass in milliseconds."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now_s


class VirtualClock:
    """The time of a `VirtualLoop`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def monotonic(self) -> float:
        return self._loop.now_s

    def wall(self) -> float:
        return WALL_S + self._loop.now_s

    def sleep(self, seconds: float) -> None:
        self._loop.now_s += seconds


def run_virtual(main: Callable[[VirtualClock], Awaitable[T]]) -> T:
    """The result of `main(clock)` in virtual time."""
    loop = VirtualLoop()

    async def wrapped() -> T:
        return await main(VirtualClock(loop))

    try:
        return loop.run_until_complete(wrapped())
    finally:
        loop.close()


class Formula:
    """A service that ends each exchange when `done_s(exchange, now)` says; `nan` never."""

    def __init__(self, clock: VirtualClock, done_s: Callable[[Exchange, float], float]) -> None:
        self.on_done: Callable[[Exchange], None] = lambda _exchange: None
        self.busy = self.peak = 0
        self._clock = clock
        self._done_s = done_s

    def submit(self, exchange: Exchange) -> None:
        now = exchange.sent_s = self._clock.monotonic()
        self.busy += 1
        self.peak = max(self.peak, self.busy)
        until = self._done_s(exchange, now)
        asyncio.get_running_loop().call_at(until, self._end, exchange)

    def _end(self, exchange: Exchange) -> None:
        self.busy -= 1
        exchange.done_s = self._clock.monotonic()
        exchange.status = exchange.status or 200
        exchange.outcome = exchange.outcome or "ok"
        self.on_done(exchange)


def exchanges() -> list[Exchange]:
    """Enough for a test."""
    return [Exchange(b"{}", "short") for _ in range(200_000)]
