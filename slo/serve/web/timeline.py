"""
The last day in steps of fifteen seconds, for the live page: what the running process remembers by itself.

Steps are differences of the cumulative histograms in `Telemetry`, so no request is counted twice or lost. Each keeps
its non-empty bins only: a busy day takes about 5 MB. Steps add, so any coarser step is exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import STANDARD, BinCounts, Edges

STEP_S = 15
STEPS = 24 * 3600 // STEP_S
BATCH = "batch"  # requests of this class have no deadline: neither good nor bad
OWN_MISTAKE = "4xx"  # the client's

Bins = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything since the start of the process: online requests that the service answers for, and 2xx by bin."""

    total: int
    refused: int
    answered: Bins


@dataclass(frozen=True, slots=True)
class Step:
    """What happened from `start_s` (wall clock) on, for one step; `places` and `counts` are the bins in use."""

    start_s: int
    total: int
    good: int
    refused: int
    in_flight: int
    places: NDArray[np.uint16]
    counts: Bins


@dataclass(frozen=True, slots=True)
class Point:
    """One or several steps added up. `in_flight` is the largest of the moments looked at."""

    start_s: float
    total: int
    good: int
    refused: int
    in_flight: int
    answered: BinCounts


@dataclass(frozen=True, slots=True)
class Recall:
    """What is remembered at one moment; later steps do not change it, so a thread may work on it."""

    started_s: float
    steps: Sequence[Step]
    since_start: tuple[int, int]  # good, total
    edges: Edges = STANDARD

    def counts(self, seconds: float, now_s: float) -> tuple[int, int]:
        """Good and total of the last `seconds`, to within a step."""
        recent = [step for step in self.steps if step.start_s >= now_s - seconds]
        return sum([step.good for step in recent]), sum([step.total for step in recent])

    def points(self, from_s: float, step_s: int) -> list[Point]:
        """Points of `step_s` seconds from `from_s` on, where anything is remembered."""
        groups: dict[int, list[Step]] = {}
        for step in self.steps:
            if step.start_s >= from_s:
                groups.setdefault(int((step.start_s - from_s) // step_s), []).append(step)
        return [_added(from_s + index * step_s, steps, self.edges) for index, steps in groups.items()]


class Timeline:
    """The ring of steps; `take` is called at every multiple of `STEP_S` of the wall clock, on the event loop."""

    def __init__(self, telemetry: Telemetry, started_s: float, threshold_s: float) -> None:
        self._telemetry = telemetry
        self._started_s = started_s
        self._good_bins = telemetry.edges.within(threshold_s)
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._last = Totals(0, 0, np.zeros(telemetry.edges.bins, dtype=np.int64))
        self._since_s = int(started_s // STEP_S * STEP_S)

    def take(self, wall_s: float) -> None:
        """Close the step that ends now."""
        now = self._totals()
        self._steps.append(self._step(now))
        self._last, self._since_s = now, round(wall_s / STEP_S) * STEP_S

    def recall(self) -> Recall:
        """Everything up to now, the step under way included."""
        now = self._totals()
        good = int(now.answered[: self._good_bins].sum())
        return Recall(self._started_s, (*self._steps, self._step(now)), (good, now.total), self._telemetry.edges)

    def _step(self, now: Totals) -> Step:
        """What has happened since the last step was closed."""
        grown = now.answered - self._last.answered
        places = np.flatnonzero(grown)
        return Step(
            start_s=self._since_s,
            total=now.total - self._last.total,
            good=int(grown[: self._good_bins].sum()),
            refused=now.refused - self._last.refused,
            in_flight=self._telemetry.in_flight,
            places=places.astype(np.uint16),
            counts=grown[places],
        )

    def _totals(self) -> Totals:
        answered = np.zeros(self._telemetry.edges.bins, dtype=np.int64)
        total = refused = 0
        for (_, length, code, _), fine in self._telemetry.requests.items():
            if length == BATCH or code == OWN_MISTAKE:
                continue
            bins = np.array(fine.bins, dtype=np.int64)
            total += int(bins.sum())
            if code == "2xx":
                answered += bins
            elif code == "429":
                refused += int(bins.sum())
        return Totals(total, refused, answered)


def _added(start_s: float, steps: Sequence[Step], edges: Edges) -> Point:
    answered = np.zeros(edges.bins, dtype=np.int64)
    for step in steps:
        answered[step.places] += step.counts
    return Point(
        start_s=start_s,
        total=sum(step.total for step in steps),
        good=sum(step.good for step in steps),
        refused=sum(step.refused for step in steps),
        in_flight=max(step.in_flight for step in steps),
        answered=BinCounts(answered, edges),
    )


def mean_s(counts: BinCounts) -> float | None:
    """Mean by the middles of the bins, at most 1 % off; None without observations."""
    total = counts.total
    return float((counts.bins * counts.edges.middles_s()).sum()) / total if total else None
