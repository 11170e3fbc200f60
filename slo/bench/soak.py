"""
`slo stress`: N closed-loop callers for as long as asked for, in slices of five minutes.

Every finished slice is one line appended to `runs/<id>.slices.jsonl`, after a header that says what is being run:
counts, the generator's own behaviour, what the answers checked so far proved, and its part of a fair sample of all
requests. So `--resume ID` goes on where a killed run stopped, and nothing but the slice under way is lost. The record
is made from these lines alone: it covers all sessions alike, and a run that was killed at the very end needs no more
load to have one. Within a slice percentiles are exact; over the whole run they come from 1 % wide bins, while counts
and thus the verdict stay exact. Memory and file stay small however long it runs (see `fair` and `collect.turn`).

Closed loop: a slow server slows these callers down, so the figures describe N such callers and no others.

The samples kept are fair over any length and any number of sessions (`FairSample`): each request draws a number from
[0, 1) and is kept while that lies below `share`. When more than `keep` are held, the share is halved and what lies
above it is dropped. Neither the rate nor the length of a slice matters, and samples that were written down with their
numbers before an interruption are dropped like all others afterwards. What is ever written down grows with the
logarithm of the run: about keep · (1 + ½·log₂(requests / keep)) samples.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from slo.bench.answers import Kept, ReferenceCheck
from slo.bench.conditions import Stopper, priority_name, run_load
from slo.bench.ledger import answers_row, taken, was_good
from slo.bench.open_loop import closed_loop, drain
from slo.bench.session import Load, Session, referred, started
from slo.bench.slices import Row, Slice, append_row
from slo.bench.soak_record import soak_record
from slo.clock import iso
from slo.records import Run
from slo.samples import Sample

KEEP = 20_000  # samples over the whole run
MOST_SLICES = 3000  # their lines are held in memory: 24 hours of half-minute slices
ANSWERS = 12  # of each slice, compared with their references


class FairSample:
    """Up to `keep` samples. `shift_s` is added to the times of what is offered from now on."""

    def __init__(self, keep: int, seed: str, *, shift_s: float = 0.0) -> None:
        self.share = 1.0
        self.shift_s = shift_s
        self._keep = keep
        self._source = random.Random(f"{seed}/fair")
        self._older: list[tuple[float, Sample]] = []
        self._current: list[tuple[float, Sample]] = []

    def offer(self, sample: Sample) -> None:
        """Keep `sample`, if its number says so."""
        number = self._source.random()
        if number < self.share:
            shift = self.shift_s
            moved = replace(
                sample, due_s=sample.due_s + shift, sent_s=sample.sent_s + shift, done_s=sample.done_s + shift,
                dispatched_s=None,
            )  # fmt: skip
            self._current.append((number, moved))
            self._thin()

    def take(self) -> Row:
        """What was kept since the last call, for the file."""
        rows = [
            [round(n, 9), *(round(t, 6) for t in (s.due_s, s.sent_s, s.done_s)), s.outcome, s.length_class, s.cached]
            for n, s in self._current
        ]  # fmt: skip
        self._older += self._current
        self._current = []
        return {"share": self.share, "rows": rows}

    def restore(self, taken: Iterable[Row]) -> None:
        """Hold again what `take` gave, in any number of sessions."""
        for part in taken:
            self.share = min(self.share, part["share"])
            self._older += [(row[0], Sample(*row[1:])) for row in part["rows"]]
        self._drop()
        self._thin()

    def samples(self) -> list[Sample]:
        """All that are held, in order of due time."""
        return sorted((sample for _, sample in self._older + self._current), key=lambda sample: sample.due_s)

    def _thin(self) -> None:
        while len(self._older) + len(self._current) > self._keep:
            self.share /= 2
            self._drop()

    def _drop(self) -> None:
        self._older = [item for item in self._older if item[0] < self.share]
        self._current = [item for item in self._current if item[0] < self.share]


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """`id` names the run; one that is resumed has slices `done` and no `header` to write."""

    id: str
    clients: int
    duration_s: float
    started_wall_s: float
    slice_s: float = 300.0
    warmup_s: float = 10.0
    file: Path
    header: Row = field(default_factory=dict)
    done: tuple[Row, ...] = ()

    @property
    def remaining_s(self) -> float:
        done_s: float = sum(row["seconds"] for row in self.done)
        return max(0.0, self.duration_s - done_s)


def soak(session: Session, plan: SoakPlan, *, on_slice: Callable[[Row], None], stopper: Stopper | None = None) -> Run:
    """Run what remains of `plan`; the record over all its slices. Ctrl-C ends it with what was done."""
    if plan.header:
        append_row(plan.file, plan.header)
    rows, stopper = list(plan.done), stopper or Stopper()
    fair = FairSample(KEEP, f"{session.seed}/{len(rows)}")
    fair.restore(row["sample"] for row in rows)
    if plan.remaining_s > 0:
        run_load(lambda asked: _Session(session, plan, rows, fair, on_slice).run(asked), stopper)
    run = soak_record(session, plan.id, plan.started_wall_s, rows, fair.samples())
    run.settings |= {"clients": plan.clients, "duration_s": plan.duration_s, "slice_s": plan.slice_s}
    run.interrupted = stopper.requested
    return run


class _Session:
    """One uninterrupted stretch of a soak; `rows` receives its slices."""

    def __init__(
        self, session: Session, plan: SoakPlan, rows: list[Row], fair: FairSample, on_slice: Callable[[Row], None]
    ) -> None:
        self._session, self._plan, self._rows, self._fair, self._on_slice = session, plan, rows, fair, on_slice
        self._number = rows[-1]["session"] + 1 if rows else 0
        self._first = True
        self._slice = Slice(0.0)
        self._comparing: list[tuple[dict[int, tuple[str, bool]], asyncio.Task[ReferenceCheck]]] = []

    async def run(self, stopper: Stopper) -> None:
        """Warm up, then go on until the time is over or `stopper` asks."""
        session, plan, clock = self._session, self._plan, self._session.clock
        async with started(session, connections=plan.clients, keep=0, answers=ANSWERS) as load:
            collector = load.collector
            self._fair.shift_s = clock.wall() - plan.started_wall_s - clock.monotonic()
            warm_until_s = clock.monotonic() + plan.warmup_s
            load.begin("warm-up", warm_until_s)
            until_s = float("inf")
            collector.listeners.append(
                lambda exchange: self._slice.observe(exchange, session.objective, self._fair.offer)
            )

            def stop(now_s: float) -> bool:
                nonlocal until_s
                load.poll(now_s)
                if not collector.measuring:
                    if now_s < warm_until_s and not stopper.requested:
                        return False
                    load.measure()
                    load.use()  # of the warm-up
                    until_s = now_s + plan.remaining_s
                    load.begin("stress", until_s)
                    self._slice = Slice(now_s)
                if now_s >= until_s or stopper.requested:
                    return True
                if now_s - self._slice.started_s >= plan.slice_s:
                    self._close(load, now_s)
                return False

            await closed_loop(load.service, plan.clients, session.exchanges(), collector, clock=clock, stop=stop)
            ended_s = clock.monotonic()
            await drain(collector, clock=clock, patience_s=session.target.timeout_s + 1)
            if self._slice.any_answers:
                self._compare(load)
            await asyncio.gather(*(task for _, task in self._comparing))
            if self._comparing:
                self._close(load, ended_s, drained=True)

    def _close(self, load: Load, now_s: float, *, drained: bool = False) -> None:
        """Write the slice down and begin the next. After the last one `drained`: its answers are compared already."""
        session, plan, current = self._session, self._plan, self._slice
        seconds = now_s - current.started_s
        if not drained:
            self._compare(load)
        row = current.row(
            len(self._rows), now_s, session.objective,
            session=self._number,
            t=round(current.started_s + self._fair.shift_s, 3),
            ended_at=iso(session.clock.wall()),
            drained=drained,
            clients=plan.clients,
            **taken(load, seconds, session.clock.monotonic() if drained else now_s),
            **load.use(),
            warmup=load.warmup() if self._first else None,
            priority=priority_name(),
            answers=self._compared(),
            sample=self._fair.take(),
        )  # fmt: skip
        self._first = False
        self._rows.append(row)
        append_row(plan.file, row)
        self._on_slice(row)
        self._slice = Slice(now_s)
        gc.collect()

    def _compare(self, load: Load) -> None:
        """Ask for the references of the answers kept in this slice, beside the load."""
        kept: list[Kept] = load.check.take()
        counted = {answer.sequence: was_good(load.collector, answer) for answer in kept}
        task = asyncio.get_running_loop().create_task(referred(self._session, kept))
        self._comparing.append((counted, task))

    def _compared(self) -> list[Row]:
        """Comparisons that have ended since the last slice."""
        ended = [pair for pair in self._comparing if pair[1].done()]
        self._comparing = [pair for pair in self._comparing if not pair[1].done()]
        return [
            answers_row(task.result(), (counted[wrong.sequence] for wrong in task.result().wrong))
            for counted, task in ended
        ]
