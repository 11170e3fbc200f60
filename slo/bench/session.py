"""
One load under way: pool, collector, resource monitor and display, put together and taken apart.

`Session` is what the loads of one command have in common; `Load` is one of them; `load_record` makes the run of it.
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
from slo.bench.collect import KEEP, Collector
from slo.bench.exchange import OK, Exchange, Service
from slo.bench.resources import Monitor, Reading
from slo.bench.retries import Retrying
from slo.bench.selfcheck import Instrument
from slo.bench.wire import Pool, Target
from slo.bench.workload import Item, Workload
from slo.clock import Clock, SystemClock
from slo.errors import RequestTimeout
from slo.objective import Objective
from slo.stats import nearest_rank, percentile_interval

SHOW_S = 1.0
KEEP_ANSWERS = 48
SILENT = 2  # references in a row that time out: the server hangs
REFERENCE_MS = 5000.0  # a reference may wait so long at a server that sheds load


@dataclass(frozen=True, kw_only=True)
class Live:
    """How a load is doing: figures over the last ten seconds; `left_s` None where there is no end in sight."""

    phase: str
    elapsed_s: float
    left_s: float | None
    rate: float
    p95_ms: float
    p95_low_ms: float
    p95_high_ms: float
    good_ratio: float
    in_flight: int
    failed: int


Show = Callable[[Live], None]


def live(collector: Collector, now_s: float, *, phase: str, until_s: float | None) -> Live:
    """The state of `collector` at `now_s`."""
    window = collector.window(now_s)
    latencies = sorted(latency for _, latency, _ in window)
    low, high = percentile_interval(latencies, 0.95)
    span = min(10.0, max(0.1, now_s - collector.started_s))
    return Live(
        phase=phase,
        elapsed_s=now_s - collector.started_s,
        left_s=None if until_s is None else max(0.0, until_s - now_s),
        rate=len(window) / span,
        p95_ms=nearest_rank(latencies, 0.95),
        p95_low_ms=low,
        p95_high_ms=high,
        good_ratio=sum(good for _, _, good in window) / len(window) if window else float("nan"),
        in_flight=collector.in_flight,
        failed=sum(tally.failed.total() for tally in collector.classes.values()),
    )


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
    retries: int = 0
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
        self.retrying = Retrying(pool, session.retries, seed=session.seed) if session.retries else None
        self.service: Service = self.retrying or pool
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

    def measure_memory(self) -> int | None:
        """Memory of the server now, shared pages counted once; for when the load is over."""
        return self._monitor.measure_memory()

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
        load.collector.mark_wrong(kept.sequence, kept.length_class)
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
