"""
`slo load`: one open-loop run, from warm-up to verdict.

Latency runs from the moment a request was *due*. The warm-up is the same load with other texts; it ends when latency
has settled, and the measurement follows without a gap. The verdict is on the whole mix: that is what was promised;
each class is shown beside it. See `verdict` for what makes a run void.

The warm-up before it is the same load, not counted, until its latency has settled or its time is up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from slo.bench.conditions import Stopper, run_load
from slo.bench.exchange import Exchange
from slo.bench.load_record import record, self_checked
from slo.bench.looks import EarlyStop, held_to
from slo.bench.open_loop import drain, open_loop
from slo.bench.schedule import Schedule, poisson, write_trace
from slo.bench.session import Load, Session, started, verified
from slo.bench.stationary import drift, settled
from slo.bench.verdict import conclude
from slo.errors import StoreError
from slo.records import Run
from slo.sentences import say

LONGEST_S = 60.0
SHORTEST_S = 5.0
PER_BLOCK = 5  # requests that make a block mean worth looking at


class WarmUp:
    """Hears of ended exchanges; `over(now)` says when to begin to measure.

    `wanted_s` None: when `settled` says so, after 5 s at least and 60 s at most; else after that time.
    """

    def __init__(self, wanted_s: float | None, *, rate: float, started_s: float) -> None:
        self.settled: bool | None = None  # None: not asked
        self._wanted_s = wanted_s
        self._started_s = started_s
        self._block_s = max(1.0, PER_BLOCK / rate)
        self._blocks: dict[int, list[float]] = {}
        self._asked = 0

    @property
    def longest_s(self) -> float:
        return LONGEST_S if self._wanted_s is None else self._wanted_s

    def observe(self, exchange: Exchange) -> None:
        """Note the latency of `exchange` by the block in which it was due."""
        block = math.floor((exchange.due_s - self._started_s) / self._block_s)
        self._blocks.setdefault(block, []).append(exchange.latency_s)

    def over(self, now_s: float) -> bool:
        """Has it lasted long enough? The block under way is not looked at."""
        passed_s = now_s - self._started_s
        if self._wanted_s is not None or passed_s >= LONGEST_S:
            return passed_s >= self.longest_s
        current = math.floor(passed_s / self._block_s)
        if current == self._asked or passed_s < SHORTEST_S:
            return False
        self._asked = current
        self.settled = settled([fmean(self._blocks[i]) for i in sorted(self._blocks) if i < current])
        return self.settled


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """`warmup_s` None means: until it has settled. `record_to` receives arrival times and lengths.

    `stop_early`: end as soon as the verdict is certain, see `looks`.
    """

    schedule: Schedule
    warmup_s: float | None = None
    record_to: Path | None = None
    stop_early: bool = False


def load_once(session: Session, plan: LoadPlan, stopper: Stopper | None = None) -> Run:
    """Run it; the record. A Ctrl-C ends it early and marks the record as interrupted."""
    return run_load(lambda asked: _load(session, plan, asked), stopper)


async def _load(session: Session, plan: LoadPlan, stopper: Stopper) -> Run:
    clock, arrivals = session.clock, Arrivals(plan.record_to is not None)
    async with started(session) as load:
        warm = await warm_up(session, load, plan, stopper)
        complete = False
        looks = EarlyStop(session.objective, plan.schedule.duration_s) if plan.stop_early else None
        if not stopper.requested:
            load.measure()
            complete = await _measure(session, load, plan, stopper, arrivals, looks)
        ended_s = clock.monotonic()
        await drain(load.collector, clock=clock, patience_s=session.target.timeout_s + 1)
        check = self_checked(load)
        comparison = await verified(load)
        collector = load.collector
        bad, latencies_ms = collector.computed()
        interrupted = not complete and not (looks and looks.early)
        details: dict[str, Any] = {
            "offered": len(plan.schedule.due_s),
            "sent": len(collector.flags),
            "steady": plan.schedule.steady,
            "asked_rate": plan.schedule.asked_rate,
            "measured_s": ended_s - collector.measured_from_s,
            "settled": warm.settled,
            **({"looks": looks.to_json()} if looks else {}),
        }
        conclusion = conclude(
            bad,
            held_to(details, session.objective, plan.schedule.duration_s, interrupted=interrupted),
            latencies_ms=latencies_ms,
            seconds=details["measured_s"],
            faults=check.faults,
            drifting=drifting(collector.series()) if plan.schedule.steady else None,
            wrong=len(comparison.wrong),
            compared=comparison.compared,
        )
        run = record(
            load,
            "load",
            conclusion=conclusion,
            check=check,
            comparison=comparison,
            settings={
                "load": described_load(session, plan.schedule),
                "arrivals": plan.schedule.name,
                "rate": plan.schedule.rate,
                "duration_s": plan.schedule.duration_s,
            },
            details=details,
        )
    run.interrupted = interrupted
    if warm.settled is False and collector.flags:  # else it was stopped before it could settle
        run.notes.append(say("unsettled", seconds=f"{LONGEST_S:g}"))
    if plan.record_to is not None:
        try:
            write_trace(plan.record_to, arrivals.rows)
        except StoreError as error:  # what was measured is worth more
            run.notes.append(say("untraced", error=error.message))
    return run


async def warm_up(session: Session, load: Load, plan: LoadPlan, stopper: Stopper) -> WarmUp:
    """The same mix at the rate with which the schedule begins."""
    clock, rate = session.clock, starting_rate(plan.schedule)
    warm = WarmUp(plan.warmup_s, rate=rate, started_s=clock.monotonic())
    load.collector.listeners.append(warm.observe)
    load.begin("warm-up", None)
    other = session.reseeded("warm-up")

    def stop(now_s: float) -> bool:
        load.poll(now_s)
        return stopper.requested or warm.over(now_s)

    if warm.longest_s > 0:
        due = poisson(rate, warm.longest_s + 1, other.seed)
        await open_loop(load.service, due, other.exchanges(), load.collector, clock=clock, stop=stop)
    load.collector.listeners.remove(warm.observe)
    return warm


async def _measure(
    session: Session, load: Load, plan: LoadPlan, stopper: Stopper, arrivals: Arrivals, looks: EarlyStop | None
) -> bool:
    clock, schedule = session.clock, plan.schedule
    start_s = clock.monotonic()
    load.begin("load", start_s + schedule.duration_s)

    def stop(now_s: float) -> bool:
        load.poll(now_s)
        if looks and looks.due(now_s - start_s):
            return looks.over(now_s - start_s, *load.collector.computed(settled=True)) or stopper.requested
        return stopper.requested

    exchanges = arrivals.noting(session.exchanges(schedule.chars), schedule)
    return await open_loop(load.service, schedule.due_s, exchanges, load.collector, clock=clock, stop=stop)


class Arrivals:
    """Due times and lengths of what was sent, if wanted."""

    def __init__(self, wanted: bool) -> None:
        self.rows: list[tuple[float, tuple[int, ...]]] = []
        self._wanted = wanted

    def noting(self, exchanges: Iterator[Exchange], schedule: Schedule) -> Iterator[Exchange]:
        """The same exchanges, each noted with its due time."""
        if not self._wanted:
            return exchanges
        return self._noted(exchanges, schedule)

    def _noted(self, exchanges: Iterator[Exchange], schedule: Schedule) -> Iterator[Exchange]:
        for due_s, exchange in zip(schedule.due_s, islice(exchanges, len(schedule.due_s)), strict=True):
            self.rows.append((due_s, exchange.chars))
            yield exchange


def described_load(session: Session, schedule: Schedule) -> str:
    """The load in words that are the same for the same load: two runs may be compared where they agree."""
    work = session.workload
    texts = f"own texts {work.own.digest}" if work.own else ",".join(f"{name}={weight:g}" for name, weight in work.mix)
    repeats = "" if work.zipf is None else f", zipf {work.zipf:g}"
    rate = f" {schedule.asked_rate:g}/s" if schedule.asked_rate is not None else ""
    return f"{schedule.name}{rate}, {texts if schedule.chars is None else 'as recorded'} × {work.batch}{repeats}"


def starting_rate(schedule: Schedule) -> float:
    """Mean arrivals per second of a steady schedule, else those of its first ten seconds; at least 1."""
    if schedule.steady:
        return max(schedule.rate, 0.1)
    span = min(10.0, schedule.duration_s)
    return max(1.0, sum(1 for due in schedule.due_s if due < span) / span)


def drifting(series: list[dict[str, Any]]) -> str | None:
    """The reason if the queue kept growing, from the seconds of a record."""
    rows = [row for row in series if not row["warmup"]][1:-1]
    answered = [row for row in rows if row["p50_ms"] is not None]
    return drift([float(row["in_flight"]) for row in rows], [row["p50_ms"] for row in answered])
