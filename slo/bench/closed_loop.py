"""
Closed loop: N callers, each of whom sends its next request when its last one is answered.

What a fixed crew of clients sees. A slow service slows its own load down, so these latencies say nothing about
independent callers and are never presented as capacity: for that there is the open loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from slo.bench.collect import Collector
from slo.bench.exchange import OK, Exchange, Service
from slo.bench.open_loop import poll_until
from slo.clock import Clock

BACKOFF_S = 0.05  # after a failure that came at once: a dead server must not be asked a million times


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
