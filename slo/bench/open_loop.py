"""
Open loop: requests leave when they are due, whether or not earlier ones have been answered.

That is what independent callers do, and why a stall of the service shows in every request that was due meanwhile.
The due times are computed before; this module only executes them.

Closed loop (`closed_loop`): N callers, each of whom sends its next request when its last one is answered. What a fixed
crew of clients sees. A slow service slows its own load down, so these latencies say nothing about independent callers
and are never presented as capacity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from slo.bench.collect import Collector
from slo.bench.exchange import OK, Exchange, Service
from slo.clock import Clock

T = TypeVar("T")
POLL_S = 0.05
TURN = 32  # at most so many overdue requests at once, then answers are read again
BACKOFF_S = 0.05  # after a failure that came at once: a dead server must not be asked a million times


async def open_loop(
    service: Service,
    due_s: Sequence[float],
    exchanges: Iterator[Exchange],
    collector: Collector,
    *,
    clock: Clock,
    stop: Callable[[float], bool] = lambda _now_s: False,
) -> bool:
    """Dispatch one exchange per due time, counted from now. Was the schedule carried out to its end?

    `stop(now)` is asked twenty times a second. Returns when the last one is dispatched, not when it is answered: see
    `drain`. If the loop is late it sends at once what is overdue; nothing is left out.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[bool] = loop.create_future()
    count, index = len(due_s), 0
    upcoming = next(exchanges) if count else None  # made ready before it is due
    start_s = clock.monotonic()
    service.on_done = collector.finish

    def dispatch() -> None:
        nonlocal index, upcoming
        if ended.done():
            return
        now, turn_ends = clock.monotonic(), index + TURN
        while upcoming is not None and start_s + due_s[index] <= now and index < turn_ends:
            exchange = upcoming
            exchange.due_s, exchange.dispatched_s = start_s + due_s[index], now
            collector.begin(exchange)
            service.submit(exchange)
            index += 1
            upcoming = next(exchanges) if index < count else None
            now = clock.monotonic()
        if upcoming is None:
            ended.set_result(True)
        else:
            loop.call_later(max(0.0, start_s + due_s[index] - now), dispatch)

    poll_until(ended, stop, clock, result=False)
    dispatch()
    return await ended


def poll_until(ended: asyncio.Future[T], stop: Callable[[float], bool], clock: Clock, *, result: T) -> None:
    """Ask `stop` twenty times a second and end with `result` when it says so. What it raises, `ended` raises."""
    loop = asyncio.get_running_loop()

    def poll() -> None:
        if ended.done():
            return
        try:
            over = stop(clock.monotonic())
        except Exception as error:  # noqa: BLE001 - not swallowed: it reaches whoever waits, instead of the loop's log
            ended.set_exception(error)
            return
        if over:
            ended.set_result(result)
        else:
            loop.call_later(POLL_S, poll)

    poll()


async def drain(collector: Collector, *, clock: Clock, patience_s: float) -> None:
    """Wait until nothing is in flight, at most `patience_s`."""
    until_s = clock.monotonic() + patience_s
    while collector.in_flight and clock.monotonic() < until_s:
        await asyncio.sleep(POLL_S / 5)


async def closed_loop(
    service: Service,
    clients: int,
    exchanges: Iterator[Exchange],
    collector: Collector,
    *,
    clock: Clock,
    stop: Callable[[float], bool],
) -> None:
    """Keep `clients` requests under way until `stop(now)`; a request is due when the one before it has ended.

    `stop` is asked twenty times a second. Returns with requests still in flight: see `drain`.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def send(due_s: float | None = None) -> None:
        if ended.done():
            return
        exchange = next(exchanges)
        exchange.dispatched_s = clock.monotonic()
        exchange.due_s = exchange.dispatched_s if due_s is None else due_s
        collector.begin(exchange)
        service.submit(exchange)

    def done(exchange: Exchange) -> None:
        collector.finish(exchange)
        if exchange.outcome == OK:
            loop.call_soon(send, exchange.done_s)
        else:
            loop.call_later(BACKOFF_S, send)

    service.on_done = done
    for _ in range(clients):
        send()
    poll_until(ended, stop, clock, result=None)
    await ended
