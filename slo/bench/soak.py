"""
`slo stress`: N closed-loop callers for as long as wished, in slices of five minutes.

Every finished slice is one line appended to `runs/<id>.slices.jsonl`, after a header that says what is being run. So
nothing is lost when the machine goes down, and `--resume ID` goes on where it stopped. Within a slice percentiles are
exact; over the whole run they come from 1 % wide bins, while counts and thus the verdict stay exact. Attainment is
said both ways: the share of good requests, and the share of slices that met the objective.

Closed loop: a slow server slows these callers down, so the figures describe N such callers and no others.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slo.bench.answers import Comparison
from slo.bench.closed_loop import closed_loop
from slo.bench.open_loop import drain
from slo.bench.running import Stopper, run_load
from slo.bench.session import Load, Session, record, self_checked, started, verified
from slo.bench.slices import Row, Slice, append_row, soak_figures, total_of, totals
from slo.bench.verdict import Conclusion, judge_dependent
from slo.clock import iso
from slo.objective import Objective, Verdict
from slo.records import Run

KEEP = 20_000


@dataclass(frozen=True, kw_only=True)
class SoakPlan:
    """`id` names the run; one that is resumed has slices `done` and no `header` to write."""

    id: str
    clients: int
    duration_s: float
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
    return run_load(lambda asked: _soak(session, plan, on_slice, asked), stopper)


async def _soak(session: Session, plan: SoakPlan, on_slice: Callable[[Row], None], stopper: Stopper) -> Run:
    clock, objective = session.clock, session.objective
    rows = list(plan.done)
    async with started(session, connections=plan.clients, keep=KEEP, step_s=60.0) as load:
        collector = load.collector
        load.begin("warm-up", clock.monotonic() + plan.warmup_s)
        warm_until_s = clock.monotonic() + plan.warmup_s
        until_s = warm_until_s + plan.remaining_s
        current = Slice(warm_until_s)
        collector.listeners.append(lambda exchange: current.heard(exchange, objective))

        def close(now_s: float) -> None:
            nonlocal current
            row = current.row(
                len(rows), now_s, objective,
                ended_at=iso(clock.wall()), clients=plan.clients, peak_in_flight=collector.peak_in_flight,
                **_use(load, current.started_s),
            )  # fmt: skip
            rows.append(row)
            append_row(plan.file, row)
            on_slice(row)
            current = Slice(now_s)
            gc.collect()

        def stop(now_s: float) -> bool:
            load.poll(now_s)
            if not collector.measuring:
                if now_s < warm_until_s and not stopper.requested:
                    return False
                load.measure()
                load.begin("stress", until_s)
                current.started_s = now_s
            if now_s >= until_s or stopper.requested:
                return True
            if now_s - current.started_s >= plan.slice_s:
                close(now_s)
            return False

        await closed_loop(load.pool, plan.clients, session.exchanges(), collector, clock=clock, stop=stop)
        ended_s = clock.monotonic()
        await drain(collector, clock=clock, patience_s=session.target.timeout_s + 1)
        if current.bad:
            close(ended_s)
        check = self_checked(load)
        comparison = await verified(load)
        conclusion = concluded(rows, objective, check.faults, comparison)
        run = record(
            load, "stress", conclusion=conclusion, check=check, comparison=comparison,
            settings={"clients": plan.clients, "duration_s": plan.duration_s, "slice_s": plan.slice_s,
                      "loop": "closed", "resumed_after": len(plan.done)},
            details={"slices": [_public(row) for row in rows], "soak": soak_figures(rows, plan.clients)},
        )  # fmt: skip
    run.id = plan.id
    run.interrupted = stopper.requested
    merged = totals(rows)
    run.exact = [tally.summary(name, objective) for name, tally in merged.items()]
    cached = total_of(row["cached"] for row in rows)
    run.exact_cached = cached.summary("cached", objective) if cached.total else None
    run.notes.append("closed loop: describes these callers; independent callers do not wait for each other")
    return run


def concluded(rows: list[Row], objective: Objective, faults: tuple[str, ...], comparison: Comparison) -> Conclusion:
    """The verdict over all slices; each weighs as its own effective number of requests."""
    total, good = sum(row["total"] for row in rows), sum(row["good"] for row in rows)
    effective = sum(row["effective"] for row in rows)
    judgement = judge_dependent(good, total, effective, objective)
    verdict, remarks = judgement.verdict, list[str]()
    if comparison.wrong:
        verdict = Verdict.MISSED
        remarks.append(f"{len(comparison.wrong)} of {comparison.compared} checked answers were wrong")
    return Conclusion(
        verdict=Verdict.UNPROVEN if faults else verdict,
        judgement=judgement,
        effective=effective,
        void=faults,
        remarks=tuple(remarks),
    )


def _use(load: Load, since_s: float) -> Row:
    """Memory at the end of the slice, and mean shares over it; what was read before is dropped from the load."""
    start = since_s - load.collector.started_s
    readings = [reading for reading in load.readings if reading.t >= start]
    load.readings[:] = load.readings[-1:]

    def mean(name: str) -> float | None:
        values = [v for reading in readings if (v := getattr(reading, name)) is not None]
        return round(sum(values) / len(values), 4) if values else None

    return {
        "rss": readings[-1].rss if readings else None,
        "server_cpu": mean("server_cpu"),
        "own_cpu": mean("own_cpu"),
        "steal": mean("steal"),
        "load_1m": mean("load_1m"),
    }


def _public(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("tallies", "cached")}
