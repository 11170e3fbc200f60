"""
Two runs side by side: is the second faster, slower, or can these samples not tell?

The ratio of the two P95s (after / before) gets an interval by bootstrap: both runs are drawn anew from their own
samples 4000 times, in blocks of ten neighbours, because neighbours in time share the machine's mood and single draws
would make the interval too narrow. The seed of the drawing is fixed, so one pair of records always gives one answer.
All rows together are wrong in 5 % of comparisons of equal services at most (Bonferroni: each row's interval holds at
1 − 5 %/rows). Percentiles are nearest rank, failures infinitely slow, cached answers left out, as everywhere.

The interval knows the scatter within each run, not what changed between them: other load on the machine, a CPU clock.
Two runs of the same server minutes apart may differ "significantly"; repeat both in turns (ABAB) when it matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slo.errors import RunError
from slo.objective import Objective, Verdict
from slo.records import Run
from slo.samples import Sample, Summary, summarize
from slo.sentences import say
from slo.stats import rank

RESAMPLES = 4000
AT_ONCE = 2_000_000  # values drawn at a time
BLOCK = 10
SEED = 20_240_501
ERROR = 0.05  # of all rows together
FEWEST = 20  # samples per row and run; a P95 of fewer is their maximum

Floats = NDArray[np.float64]


class Difference(Enum):
    """What the interval of the ratio says."""

    FASTER = "faster"
    SLOWER = "slower"
    NONE = "no significant difference"
    TOO_FEW = "too few samples"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One length class, or all. `low` and `high` bound after/before; NaN with too few samples."""

    before: Summary
    after: Summary
    low: float
    high: float
    difference: Difference

    @property
    def improvement(self) -> float:
        """Share of the P95 that is gone: 0.548 for 210 → 95 ms. NaN where either P95 is a failure."""
        if not 0 < self.before.p95_ms < math.inf or self.after.p95_ms == math.inf:
            return math.nan
        return (self.before.p95_ms - self.after.p95_ms) / self.before.p95_ms

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.before.name,
            "before_p95_ms": self.before.p95_ms,
            "after_p95_ms": self.after.p95_ms,
            "improvement": self.improvement,
            "ratio_low": self.low,
            "ratio_high": self.high,
            "difference": self.difference.value,
            "before_verdict": self.before.judgement.verdict.value,
            "after_verdict": self.after.judgement.verdict.value,
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The rows, and what makes them hard to compare."""

    before: Run
    after: Run
    rows: list[Row]
    warnings: list[str]

    @property
    def void(self) -> bool:
        """Is either run void? Then nothing follows from the rows."""
        return bool(self.before.void or self.after.void)

    @property
    def slower(self) -> bool:
        """Is any row significantly slower?"""
        return not self.void and any(row.difference is Difference.SLOWER for row in self.rows)

    @property
    def verdicts(self) -> tuple[Verdict, Verdict]:
        return self.before.verdict, self.after.verdict

    def to_json(self) -> dict[str, Any]:
        """The comparison for machines; the runs by their ids."""
        return {
            "before": self.before.id,
            "after": self.after.id,
            "verdict_before": self.before.verdict.value,
            "verdict_after": self.after.verdict.value,
            "slower": self.slower,
            "rows": [row.to_json() for row in self.rows],
            "warnings": self.warnings,
        }


def compare(before: Run, after: Run) -> Comparison:
    """`after` against `before`, per class that both have, then overall where the classes are mixed alike.

    The objective of `after` judges both. Raises `RunError` when they share no class, or were not asked alike.
    """
    if unlike := _unlike(before, after):
        raise RunError(
            f"{before.id} and {after.id} cannot be compared: {'; '.join(unlike)}", hint="measure both in the same way"
        )
    classes = [name for name in _classes(before) if name in _classes(after)]
    if not classes:
        raise RunError(f"{before.id} and {after.id} share no length class", hint="compare two runs of one kind")
    pairs = [(name, _of(before, name), _of(after, name)) for name in classes]
    if len(classes) > 1 and _mixed_alike(before, after):
        pairs.append(("overall", _computed(before), _computed(after)))
    draw = np.random.default_rng(SEED)
    rows = [_row(name, a, b, after.objective, _interval(a, b, ERROR / len(pairs), draw)) for name, a, b in pairs]
    return Comparison(before=before, after=after, rows=rows, warnings=_warnings(before, after))


def _row(name: str, a: list[Sample], b: list[Sample], objective: Objective, interval: tuple[float, float]) -> Row:
    low, high = interval
    difference = Difference.NONE
    if math.isnan(low):
        difference = Difference.TOO_FEW
    elif high < 1:
        difference = Difference.FASTER
    elif low > 1:
        difference = Difference.SLOWER
    return Row(
        before=summarize(name, a, objective),
        after=summarize(name, b, objective),
        low=low,
        high=high,
        difference=difference,
    )


def _interval(a: list[Sample], b: list[Sample], error: float, draw: np.random.Generator) -> tuple[float, float]:
    if min(len(a), len(b)) < FEWEST:
        return math.nan, math.nan
    return ratio_interval(_latencies(a), _latencies(b), error, draw)


def ratio_interval(before: Floats, after: Floats, error: float, draw: np.random.Generator) -> tuple[float, float]:
    """Bounds of P95(after)/P95(before) that hold with probability 1 − error; in order of time, for the blocks."""
    ratios = _ratio(_resampled_p95(before, draw), _resampled_p95(after, draw))
    low, high = np.quantile(ratios, [error / 2, 1 - error / 2], method="inverted_cdf")
    return float(low), float(high)


def _resampled_p95(values: Floats, draw: np.random.Generator) -> Floats:
    """P95 of each of `RESAMPLES` circular block resamples, some at a time: all at once would be gigabytes."""
    n = len(values)
    block = min(BLOCK, max(1, n // 10))
    position = rank(n, 0.95) - 1
    at_once = max(1, AT_ONCE // n)
    result: Floats = np.empty(RESAMPLES)
    for first in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - first)
        starts = draw.integers(0, n, size=(count, -(-n // block), 1))
        picked = ((starts + np.arange(block)) % n).reshape(count, -1)[:, :n]
        result[first : first + count] = np.partition(values[picked], position, axis=1)[:, position]
    return result


def _ratio(before: Floats, after: Floats) -> Floats:
    """after/before where ∞/∞, two failures, counts as no difference."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: Floats = after / before
    ratio[np.isinf(before) & np.isinf(after)] = 1.0
    return ratio


def _latencies(samples: list[Sample]) -> Floats:
    return np.array([s.latency_ms if s.ok else np.inf for s in samples])


def _computed(run: Run) -> list[Sample]:
    return [sample for sample in run.samples if not sample.cached]


def _of(run: Run, name: str) -> list[Sample]:
    return [sample for sample in _computed(run) if sample.length_class == name]


def _classes(run: Run) -> list[str]:
    return list(dict.fromkeys(sample.length_class for sample in _computed(run)))


def _mixed_alike(before: Run, after: Run) -> bool:
    """Do all classes have the same share in both, within 2 %? Else their overall P95s are of different mixtures."""
    if set(_classes(before)) != set(_classes(after)):
        return False
    sizes = [len(_computed(run)) for run in (before, after)]
    return all(abs(len(_of(before, n)) / sizes[0] - len(_of(after, n)) / sizes[1]) < 0.02 for n in _classes(before))


def _warnings(before: Run, after: Run) -> list[str]:
    found = []
    for what, a, b in (
        ("model", before.model, after.model),
        ("cpu", before.host.get("cpu"), after.host.get("cpu")),
        ("cores", before.host.get("cores"), after.host.get("cores")),
        ("objective", str(before.objective), str(after.objective)),
        ("seed", before.settings.get("seed"), after.settings.get("seed")),
        ("weights", _weights(before), _weights(after)),
        ("classes", ", ".join(sorted(_classes(before))), ", ".join(sorted(_classes(after)))),
    ):
        if a != b:
            found.append(say(f"different.{what}", a=a, b=b))
    found += [say("interrupted", run=run.id) for run in (before, after) if run.interrupted]
    found += [say("void", run=run.id, reasons="; ".join(run.void)) for run in (before, after) if run.void]
    return found


def _unlike(before: Run, after: Run) -> list[str]:
    """What differs in how they were measured, so that a difference would say nothing about the services.

    The load holds the asked rate and the digest of own texts. What only one record knows is taken to be alike.
    """
    asked = [("kind", before.kind, after.kind), ("load", *loads(before, after))]
    for name in ("encoding", "connections", "clients"):
        a, b = (run.settings.get(name) for run in (before, after))
        asked.append((name, *((a, b) if a is not None and b is not None else (None, None))))
    return [say(f"different.{name}", a=a, b=b) for name, a, b in asked if a != b]


def loads(before: Run, after: Run) -> tuple[str, str]:
    """What each of them was asked to bear: arrivals and rate or callers, and the workload; equal where comparable.

    A record that does not say (another kind, or an older version) is taken to be like the other.
    """
    known = [str(run.settings["load"]) if "load" in run.settings else "" for run in (before, after)]
    return (known[0], known[1]) if all(known) else ("", "")


def _weights(run: Run) -> str:
    return "stand-in" if run.stand_in else "as served"
