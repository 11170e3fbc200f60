"""The measurements behind a plan: the cost of a request alone, and how many are served when all want at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from statistics import median

from slo.bench.conditions import Stopper, run_load
from slo.bench.exchange import Exchange
from slo.bench.open_loop import closed_loop, drain
from slo.bench.plan import BUSY_CLIENTS, SPECIAL_TOKENS, Timed, median_of
from slo.bench.session import Session, started
from slo.errors import Interrupted, RunError
from slo.texts import CLASSES

SIZES: tuple[tuple[str, int], ...] = (
    ("short", 1), ("medium", 1), ("long", 1), ("medium", 4), ("long", 4), ("long", 8),
)  # fmt: skip
PER_SIZE = 15
BUSY_S = 8.0
BUSY_SETTLE_S = 2.0


def tokens_of(length_class: str, texts: int = 1) -> int:
    """Tokens of a request: a character is one, and each text has two more around it."""
    return texts * (CLASSES[length_class] + SPECIAL_TOKENS)


def idle_costs(session: Session, stopper: Stopper) -> list[Timed]:
    """Median seconds of requests sent one at a time, per size; the first three of each size are left out."""
    points = []
    for index, (name, batch) in enumerate(SIZES):
        sized = replace(session, workload=replace(session.workload, mix=((name, 1.0),), own=None, batch=batch))
        seconds = _alone(sized.reseeded(index), stopper)
        points.append(median_of(tokens_of(name, batch), seconds))
    return points


def cached_cost(session: Session, stopper: Stopper) -> float:
    """Median seconds of texts that are asked for again and again, alone; NaN where nothing is cached."""
    again = replace(session, workload=replace(session.workload, own=None, zipf=5.0))  # 96 % of them are one text
    seconds = _alone(again, stopper, cached=True)
    return median(seconds) if seconds else math.nan


def _alone(session: Session, stopper: Stopper, *, cached: bool = False) -> list[float]:
    """Seconds of answers that were computed, or of those that were `cached`."""
    seconds: list[float] = []

    async def main(_: Stopper) -> None:
        async with started(session, connections=1) as load:
            load.begin("cost", None)
            load.measure()
            seen: list[Exchange] = []
            load.collector.listeners.append(seen.append)

            def stop(now_s: float) -> bool:
                load.poll(now_s)
                return stopper.requested or len(seen) >= PER_SIZE + 3

            await closed_loop(load.pool, 1, session.exchanges(), load.collector, clock=session.clock, stop=stop)
            await drain(load.collector, clock=session.clock, patience_s=session.target.timeout_s)
            seconds.extend(e.latency_s for e in islice(seen, 3, None) if e.outcome == "ok" and e.cached is cached)

    run_load(main, stopper)
    if stopper.requested:
        raise Interrupted("stopped while measuring the cost of a token")
    return seconds


def busy_throughput(session: Session, stopper: Stopper, clients: int = BUSY_CLIENTS) -> float:
    """Answers per second that `clients` closed-loop callers of the whole mix get."""

    async def main(_: Stopper) -> float:
        clock = session.clock
        async with started(session, connections=clients) as load:
            begun_s = clock.monotonic() + BUSY_SETTLE_S
            load.begin("busy", begun_s + BUSY_S)

            def stop(now_s: float) -> bool:
                load.poll(now_s)
                if now_s >= begun_s and not load.collector.measuring:
                    load.measure()
                return stopper.requested or now_s >= begun_s + BUSY_S

            await closed_loop(load.pool, clients, session.exchanges(), load.collector, clock=clock, stop=stop)
            tallies = load.collector.classes.values()
            answered = sum(tally.answered for tally in tallies)
            return answered / max(1e-9, clock.monotonic() - load.collector.measured_from_s)

    throughput = run_load(main, stopper)
    if stopper.requested:
        raise Interrupted("stopped while measuring throughput")
    if throughput <= 0:
        raise RunError(f"{clients} callers got no answer in {BUSY_S:g} s", hint="`slo baseline` shows why")
    return throughput


def mix_sizes(session: Session, count: int = 300) -> tuple[int, ...]:
    """Tokens of requests as the workload has them."""
    return tuple(_sizes(session.exchanges(), count))


def _sizes(exchanges: Iterator[Exchange], count: int) -> Iterator[int]:
    for exchange in islice(exchanges, count):
        yield sum(chars + SPECIAL_TOKENS for chars in exchange.chars)
