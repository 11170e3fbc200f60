"""
One load under way: pool, collector, resource monitor and display, put together and taken apart.

`Session` is what the loads of one command have in common; `Load` is one of them; `record` makes the run of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slo.bench.answers import AnswerCheck, Encoding, Kept, ReferenceCheck, compare, decode
from slo.bench.collect import KEEP, UNKNOWN, Collector
from slo.bench.conditions import priority_name
from slo.bench.exchange import OK, Exchange
from slo.bench.live import Live, live
from slo.bench.resources import Monitor, Reading, resource_summary
from slo.bench.selfcheck import Instrument, SelfCheck, check_run, with_cache
from slo.bench.verdict import Conclusion
from slo.bench.wire import Pool, Target
from slo.bench.workload import Item, Workload
from slo.clock import Clock, SystemClock
from slo.errors import RequestTimeout, Unreachable
from slo.objective import Objective
from slo.record_form import pack_bytes
from slo.records import Run
from slo.sentences import say
from slo.tally import Tally

SHOW_S = 1.0
KEEP_ANSWERS = 48
SILENT = 2  # references in a row that time out: the server hangs
REFERENCE_MS = 5000.0  # a reference may wait so long at a server that sheds load


Show = Callable[[Live], None]


@dataclass(frozen=True, kw_only=True)
class Session:
    """Whom to ask what, and how closely to look at the answers."""

    target: Target
    workload: Workload
    objective: Objective
    seed: int
    dimension: int | None = None
    encoding: Encoding = "float"
    connections: int = 256
    check_every: int = 50
    server: dict[str, Any] = field(default_factory=dict)
    server_pid: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=SystemClock)
    show: Show = lambda _live: None

    def exchanges(self, chars: Sequence[tuple[int, ...]] | None = None) -> Iterator[Exchange]:
        """Endless requests of the workload (with `chars`: as many as it has), the same for the same seed."""
        return (self._exchange(item) for item in self.workload.items(chars))

    def reseeded(self, part: int | str) -> Session:
        """The same with other texts and arrivals: what was sent before might be answered from a cache.

        Seeds come from a hash, so that parts of parts do not meet either (the warm-up of the third probe, say).
        """
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}/{part}".encode()).digest()[:6], "big")
        return replace(self, seed=seed, workload=replace(self.workload, seed=seed))

    def _exchange(self, item: Item) -> Exchange:
        wanted: dict[str, Any] = {**self.target.body, "model": self.target.model}
        wanted["input"] = item.texts[0] if item.single else item.texts
        if self.encoding != "float":
            wanted["encoding_format"] = self.encoding
        chars = tuple(map(len, item.texts))
        return Exchange(
            orjson.dumps(wanted), item.length_class, inputs=len(item.texts), chars=chars, fresh=item.fresh,
            name=item.name,
        )  # fmt: skip


class Load:
    """The live parts of one load. Call `poll(now)` now and then while it runs."""

    def __init__(self, session: Session, pool: Pool, collector: Collector, check: AnswerCheck) -> None:
        self.session, self.pool, self.collector, self.check = session, pool, collector, check
        self.started_wall_s = session.clock.wall()
        self.instrument = Instrument(session.clock)
        self.readings: list[Reading] = []
        self.phase = "warm-up"
        self.until_s: float | None = None
        self._monitor = Monitor(session.server_pid, collector.started_s)
        self._next_s = collector.started_s + SHOW_S

    def measure(self) -> None:
        """The warm-up is over."""
        self.collector.measure(self.session.clock.monotonic())
        self.restart_instrument()

    def restart_instrument(self) -> None:
        """Read clocks and own CPU time from now on."""
        self.instrument = Instrument(self.session.clock)

    def warmup(self) -> dict[str, Any]:
        """Requests and seconds that were left out."""
        collector = self.collector
        return {"discarded": collector.discarded, "seconds": collector.measured_from_s - collector.started_s}

    def use(self) -> dict[str, Any]:
        """Memory now, and mean shares since the last call; what was read before is dropped."""
        readings, self.readings = self.readings, []

        def mean(name: str) -> float | None:
            values = [v for reading in readings if (v := getattr(reading, name)) is not None]
            return round(sum(values) / len(values), 4) if values else None

        shares = {name: mean(name) for name in ("server_cpu", "own_cpu", "steal", "load_1m")}
        return {"rss": readings[-1].rss if readings else None, "pss": self._monitor.weight, **shares}

    def weigh(self) -> int | None:
        """Memory of the server now, shared pages counted once; for when the load is over."""
        return self._monitor.weigh()

    def begin(self, phase: str, until_s: float | None) -> None:
        """Name what follows, for the display."""
        self.phase, self.until_s = phase, until_s

    def poll(self, now_s: float) -> None:
        """Once a second: read the resources, show the state."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + SHOW_S
        self.readings.append(self._monitor.read(now_s))
        self.session.show(live(self.collector, now_s, phase=self.phase, until_s=self.until_s))


@asynccontextmanager
async def started(
    session: Session, *, connections: int | None = None, keep: int = KEEP, answers: int = KEEP_ANSWERS
) -> AsyncIterator[Load]:
    """A load with an open pool, closed at the end. Up to `keep` samples and `answers` are kept."""
    clock = session.clock
    pool = Pool(session.target, limit=connections or session.connections, clock=clock)
    check = AnswerCheck(every=session.check_every, keep=answers, dimension=session.dimension, seed=session.seed)
    collector = Collector(session.objective, clock=clock, check=check, keep=keep, seed=session.seed)
    pool.on_done = collector.finish
    try:
        yield Load(session, pool, collector, check)
    finally:
        await pool.close()


async def verified(load: Load) -> ReferenceCheck:
    """The kept answers against their references. Wrong ones become bad."""
    comparison = await referred(load.session, load.check.kept)
    for kept in comparison.wrong:
        load.collector.condemn(kept.sequence, kept.length_class)
    return comparison


async def referred(session: Session, answers: list[Kept]) -> ReferenceCheck:
    """`answers` against those to the same texts asked again: one at a time, past any cache, and with time to wait.

    May be used while a load runs: it adds one request in flight. A server that lets two in a row time out is asked no
    more; what is left counts as unverified.
    """
    patient = (("Cache-Control", "no-cache"), ("X-SLO-Deadline-Ms", f"{REFERENCE_MS:g}"))
    pool = Pool(replace(session.target, headers=(*session.target.headers, *patient)), limit=1, clock=session.clock)
    try:
        references: list[NDArray[np.float32] | None] = []
        silent = 0
        for kept in answers:
            if silent < SILENT:
                ended = await _asked_again(pool, kept, session.clock)
                silent = silent + 1 if ended.outcome == RequestTimeout.outcome else 0
                sound = ended.outcome == OK and not ended.cached
                references.append(decode(ended.answer, kept.inputs) if sound else None)
            else:
                references.append(None)
    finally:
        await pool.close()
    return compare(answers, references)


async def _asked_again(pool: Pool, kept: Kept, clock: Clock) -> Exchange:
    done: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
    pool.on_done = done.set_result
    exchange = Exchange(kept.body, kept.length_class, inputs=kept.inputs)
    exchange.due_s = exchange.dispatched_s = clock.monotonic()
    pool.submit(exchange)
    return await done


def record(
    load: Load,
    kind: str,
    *,
    conclusion: Conclusion,
    check: SelfCheck,
    comparison: ReferenceCheck,
    settings: dict[str, Any],
    details: dict[str, Any],
) -> Run:
    """The run of a finished load."""
    session, collector = load.session, load.collector
    thinned = collector.thinned
    run = Run(
        kind=kind,
        started_wall_s=load.started_wall_s,
        endpoint=session.target.url,
        model=session.target.model,
        objective=session.objective,
        settings={
            **session.settings,
            "workload": session.workload.describe(),
            "seed": session.seed,
            "encoding": session.encoding,
            "connections": session.connections,
            "timeout_s": session.target.timeout_s,
            "headers": [name for name, _ in session.target.headers],
            "extra_body": session.target.body,
            "keepalive": session.target.keepalive,
            **settings,
        },
        samples=collector.samples(),
        server=session.server,
        exact=collector.summaries(weight=conclusion.weight) if thinned else [],
        exact_cached=collector.cached.summary("cached", session.objective)
        if thinned and collector.cached.total
        else None,
        decided=conclusion.verdict,
        void=list(conclusion.void),
        details={
            "conclusion": conclusion.to_json(),
            "self_check": check.to_json(),
            "answers": {
                "parsed": load.check.parsed,
                "compared": comparison.compared,
                "wrong": len(comparison.wrong),
                "alike": comparison.alike,
                "unverified": comparison.unverified,
                "least_cosine": comparison.least_cosine if comparison.compared else None,
            },
            "stages": {name: tally_figures(tally) for name, tally in collector.stages.items()},
            "failures": collector.failures.rows(),
            "refusals": tally_figures(collector.refusals_ms),
            "warmup": load.warmup(),
            "evidence": evidence(collector),
            "priority": priority_name(),
            "peak_in_flight": collector.peak_in_flight,
            "peak_connections": load.pool.peak_connections,
            "texts_answered": collector.inputs,
            "series": collector.series(),
            "resources": [reading.to_json() for reading in load.readings],
            "resource_summary": resource_summary(load.readings, load.weigh()),
            **details,
        },
    )
    run.notes += [*notes(load, comparison, check), *repeats(session.workload)]
    return run


def evidence(collector: Collector) -> dict[str, Any]:
    """What the verdict follows from beside samples and self-check; counts and fates of all where not all are kept."""
    found: dict[str, Any] = {
        "sent": collector.sent,
        "unanswered": collector.flags.count(UNKNOWN),
        "sent_sha256": collector.sent_digest.hexdigest(),
    }
    if collector.thinned:
        found["fates"] = pack_bytes(bytes(collector.flags))
        found["latencies_ms"] = pack_bytes(collector.latencies_ms.tobytes())
        found["tallies"] = {name: tally.to_json() for name, tally in collector.classes.items()}
        found["cached"] = collector.cached.to_json()
    return found


def tally_figures(tally: Tally) -> dict[str, Any]:
    """Count, mean and percentiles in milliseconds; None where there is nothing."""
    if not tally.answered:
        return {"count": 0, "mean_ms": None, "p50_ms": None, "p95_ms": None, "p99_ms": None}
    return {
        "count": tally.total,
        "mean_ms": round(tally.sum_ms / tally.answered, 3),
        **{f"p{q}_ms": round(tally.quantile_ms(q / 100), 3) for q in (50, 95, 99)},
    }


def notes(load: Load, comparison: ReferenceCheck, check: SelfCheck) -> list[str]:
    """What a reader should know beside the figures."""
    collector, found = load.collector, list(check.remarks)
    if collector.cached.total:
        found.append(say("cached", count=collector.cached.total))
    if comparison.alike:
        found.append(say("alike", count=comparison.alike))
    if comparison.unverified:
        found.append(say("unverified", count=comparison.unverified))
    if collector.thinned:
        found.append(say("thinned", kept=len(collector.kept), total=collector.sent))
    unreachable = sum(tally.failed[Unreachable.outcome] for tally in collector.classes.values())
    if unreachable and load.pool.last_error:
        found.append(say("unreachable", count=unreachable, error=load.pool.last_error))
    return found


def self_checked(load: Load) -> SelfCheck:
    """The self-check at this moment; call it when the last answer has come."""
    collector, wished = load.collector, load.session.workload.zipf is not None
    check = check_run(collector, load.instrument, load.session.clock.monotonic())
    return with_cache(check, cached=collector.cached.total, computed=collector.total, wished=wished)


def repeats(workload: Workload) -> list[str]:
    """The note that texts of a file were sent again, if they were."""
    own = workload.own
    return [say("repeated", count=own.repeated, total=own.sent)] if own and own.repeated else []
