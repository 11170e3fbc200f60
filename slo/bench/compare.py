"""
Two runs side by side: is the second faster, slower, or can these samples not tell?

The ratio of the two percentiles (after / before; that of the objective, P95 by default) gets an interval by bootstrap:
both runs are drawn anew from their own samples 4000 times, in blocks of neighbours, because neighbours share a queue
and the machine's mood, and single draws would make the interval too narrow. A block is as long as requests remember
each other, by the data (`block_length`), ten at least; where that leaves few blocks, the interval is widened as
Student's is, and with two or less nothing can be said. The seed of the drawing is fixed, so one pair of records always
gives one answer. All rows together are wrong in 5 % of comparisons of equal services at most (Bonferroni: each row's
interval holds at 1 − 5 %/rows). Percentiles are nearest rank, failures infinitely slow, cached answers left out, as
everywhere.

The interval knows the scatter within each run, not what changed between them: other load on the machine, a CPU clock.
Two runs of the same server minutes apart may differ "significantly"; repeat both in turns (ABAB) when it matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slo.bench.interleaved import further, of_few
from slo.bench.verdict import cautious_size, ranks
from slo.errors import RunError
from slo.objective import Objective, Verdict
from slo.records import Run
from slo.samples import Sample, Summary, summarize
from slo.sentences import say
from slo.stats import rank

RESAMPLES = 4000
AT_ONCE = 2_000_000  # values drawn at a time
BLOCK = 10
MEMORIES = 3.0  # of a run of up to 1000: a block only as long as the memory shows too little of the scatter
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
    """One length class, or all; its percentiles, whose quotient `low` and `high` bound. NaN with too few samples."""

    before: Summary
    after: Summary
    before_ms: float
    after_ms: float
    low: float
    high: float
    difference: Difference

    @property
    def improvement(self) -> float:
        """Share of the percentile that is gone: 0.548 for 210 → 95 ms. NaN where either is a failure."""
        if not 0 < self.before_ms < math.inf or self.after_ms == math.inf:
            return math.nan
        return (self.before_ms - self.after_ms) / self.before_ms

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.before.name,
            "before_ms": self.before_ms,
            "after_ms": self.after_ms,
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
            "percentile": self.after.objective.percentile,
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
    rows = [_row(name, a, b, after.objective, ERROR / len(pairs), draw) for name, a, b in pairs]
    return Comparison(before=before, after=after, rows=rows, warnings=_warnings(before, after))


def _row(
    name: str, before: list[Sample], after: list[Sample], objective: Objective, error: float, draw: np.random.Generator
) -> Row:
    a, b = _latencies(before), _latencies(after)
    low, high = math.nan, math.nan
    if min(len(a), len(b)) >= FEWEST:
        blocks = [block_length(_within_class(part), objective.target) for part in (before, after)]
        low, high = ratio_interval(a, b, error, draw, objective.target, blocks)
    difference = Difference.NONE
    if math.isnan(low):
        difference = Difference.TOO_FEW
    elif high < 1:
        difference = Difference.FASTER
    elif low > 1:
        difference = Difference.SLOWER
    return Row(
        before=summarize(name, before, objective),
        after=summarize(name, after, objective),
        before_ms=_percentile(a, objective.target),
        after_ms=_percentile(b, objective.target),
        low=low,
        high=high,
        difference=difference,
    )


def ratio_interval(
    before: Floats,
    after: Floats,
    error: float,
    draw: np.random.Generator,
    quantile: float = 0.95,
    blocks: Sequence[int] | None = None,
) -> tuple[float, float]:
    """Bounds of percentile(after)/percentile(before) that hold with probability 1 − error.

    Both in order of time; `blocks` are their lengths of memory, found in the values themselves if not given.
    """
    sides = (before, after)
    lengths = blocks or [block_length(values, quantile) for values in sides]
    drawn = [_resampled(values, block, draw, quantile) for values, block in zip(sides, lengths, strict=True)]
    low, high = np.quantile(_ratio(*drawn), [error / 2, 1 - error / 2], method="inverted_cdf")
    ratio = float(_ratio(*(np.array([_percentile(values, quantile)]) for values in sides))[0])
    widen = of_few(min(len(values) / block for values, block in zip(sides, lengths, strict=True)), error)
    return further(float(low), ratio, widen), further(float(high), ratio, widen)


def block_length(values: Floats, quantile: float) -> int:
    """A multiple of how many weigh as one independent request, see `cautious_size`; at least ten, at most all.

    From n = 1000 on the multiple grows with the cube root of n, as the best length of a block does (Künsch 1989).
    """
    n = len(values)
    beyond = (values > _percentile(values, quantile)).astype(np.uint8)
    memory = n / cautious_size(beyond, values)
    wanted = math.ceil(MEMORIES * math.pow(max(1.0, n / 1000), 1 / 3) * memory)
    return min(n, max(min(BLOCK, max(1, n // 10)), wanted))


def _within_class(samples: list[Sample]) -> Floats:
    """Ranks within the class, from 0 to 1: classes that take turns in blocks are no memory."""
    found, names = np.empty(len(samples)), np.array([s.length_class for s in samples])
    latencies = _latencies(samples)
    for name in np.unique(names):
        found[names == name] = ranks(latencies[names == name]) / np.count_nonzero(names == name)
    return found


def _percentile(values: Floats, quantile: float) -> float:
    position = rank(len(values), quantile) - 1
    return float(np.partition(values, position)[position])


def _resampled(values: Floats, block: int, draw: np.random.Generator, quantile: float) -> Floats:
    """The percentile of `RESAMPLES` circular block resamples each, some at a time: all at once would be gigabytes."""
    n = len(values)
    position = rank(n, quantile) - 1
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
