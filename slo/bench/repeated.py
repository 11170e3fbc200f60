"""
Several runs of one kind after each other: what they say together, and how far they lie apart.

One run knows the scatter within it, not what changes from run to run: which processor a process landed on, the
neighbours of an hour. The verdict is on all requests of all runs; they weigh as those of each run do, together as no
more than the runs' shares of late ones are alike (see `between_slices`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from slo.bench.soak_record import between_slices
from slo.bench.verdict import judge_dependent, lasting
from slo.objective import Objective, Verdict
from slo.records import Run
from slo.sentences import say
from slo.stats import nearest_rank
from slo.units import show_ms


def together(runs: Sequence[Run]) -> dict[str, Any]:
    """The verdict on all of them and the percentile of each; unproven where one is void."""
    objective, parts = runs[0].objective, [_counts(run) for run in runs]
    good, total = (sum(part[key] for part in parts) for key in ("good", "total"))
    effective = math.fsum(part["effective"] for part in parts)
    if len(runs) > 1:
        effective = min(effective, between_slices(parts, least=2))
    seconds = math.fsum(part["seconds"] for part in parts)
    judgement = lasting(judge_dependent(good, total, effective, objective), seconds)
    verdict = Verdict.UNPROVEN if any(run.void for run in runs) else judgement.verdict
    if any(run.details.get("answers", {}).get("wrong") for run in runs):
        verdict = Verdict.MISSED
    found = {
        "runs": [run.id for run in runs], "verdicts": [run.verdict.value for run in runs],
        "percentile": objective.percentile, "percentiles_ms": [_percentile_ms(run) for run in runs],
        "good": good, "total": total, "effective": round(effective, 1), "verdict": verdict.value,
        "advice": judgement.advice,
    }  # fmt: skip
    return found | {"words": _spread(found, objective)}


def _spread(found: dict[str, Any], objective: Objective) -> str:
    known = [value for value in found["percentiles_ms"] if value is not None]
    return say(
        "repeats",
        count=len(found["runs"]),
        percentile=found["percentile"],
        low=show_ms(min(known)) if known else "–",
        high=show_ms(max(known)) if len(known) == len(found["runs"]) else "∞",
        met=found["verdicts"].count(Verdict.MET.value),
        share=f"{found['good'] / found['total']:.2%}" if found["total"] else "–",
        limit=f"{objective.threshold_ms:g}",
    )


def _counts(run: Run) -> dict[str, Any]:
    samples = [s for s in run.samples if not s.cached and s.length_class not in run.apart]
    span = run.samples[-1].done_s - run.samples[0].due_s if run.samples else 0.0
    seconds = run.details.get("measured_s", span)
    counted = run.details.get("conclusion") or run.details.get("on_pace")
    if not counted:
        return {"good": sum(s.good(run.objective) for s in samples), "total": len(samples), "effective": len(samples),
                "seconds": seconds}  # fmt: skip
    return {"seconds": seconds, **{key: counted[key] for key in ("good", "total", "effective")}}


def _percentile_ms(run: Run) -> float | None:
    samples = [s for s in run.samples if not s.cached and s.length_class not in run.apart]
    value = nearest_rank(sorted(s.latency_ms if s.ok else math.inf for s in samples), run.objective.target)
    return round(value, 4) if math.isfinite(value) else None
