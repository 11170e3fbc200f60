"""
`slo load --stop-early`: end as soon as the verdict is certain, and stay honest about having looked several times.

Whoever looks ten times and stops at the first "proof" is wrong more often than once. So the looks (after 5 s, 7.5 s,
11 s … and at the end) share the error: one at tᵢ may use α·(tᵢ − tᵢ₋₁)/T of it, and by the union bound all together
stay below α, whatever the service does between two. A look judges as the end of a run does (`conclude`), at its own,
stricter confidence, which also lengthens the least duration for "met". Requests count in order of due time up to the
first whose fate is open. A run that is stopped by Ctrl-C is judged by the error of the look that would have come next.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from slo.bench.verdict import conclude
from slo.objective import Objective, Verdict

FIRST_S, GROWTH = 5.0, 1.5


def look_times(duration_s: float) -> list[float]:
    """Seconds after which is looked; the last is the end."""
    times = [min(FIRST_S, duration_s)]
    while times[-1] < duration_s:
        following = times[-1] * GROWTH
        times.append(duration_s if following * GROWTH > duration_s * 1.2 else following)
    return times


def strict(objective: Objective, times: Sequence[float], index: int) -> Objective:
    """The objective at the confidence that this look is held to."""
    share = (times[index] - (times[index - 1] if index else 0.0)) / times[-1]
    return replace(objective, confidence=1 - (1 - objective.confidence) * share)


class EarlyStop:
    """Asked now and then whether the run is decided; `index` is the look whose error the verdict is held to."""

    def __init__(self, objective: Objective, duration_s: float) -> None:
        self._objective, self.times = objective, look_times(duration_s)
        self.index, self.early = 0, False

    def over(self, elapsed_s: float, bad: Sequence[int], latencies_ms: Sequence[float]) -> bool:
        """Is it decided by the requests so far? Call it when `due` says so."""
        wanted = strict(self._objective, self.times, self.index)
        found = conclude(bad, wanted, latencies_ms=latencies_ms, seconds=elapsed_s)
        self.early = found.verdict is not Verdict.UNPROVEN
        self.index += not self.early
        return self.early

    def due(self, elapsed_s: float) -> bool:
        """Is it time for a look, other than the last?"""
        return self.index < len(self.times) - 1 and elapsed_s >= self.times[self.index]

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return {"times_s": self.times, "index": self.index, "early": self.early}


def held_to(details: dict[str, Any], objective: Objective, duration_s: float, *, interrupted: bool) -> Objective:
    """What the verdict of a record was held to: by when it ended, not by what it says."""
    if "looks" not in details:
        return objective
    times = look_times(duration_s)
    passed = bisect_right(times, details["measured_s"])
    index = len(times) - 1
    if details["looks"]["early"]:
        index = max(0, passed - 1)
    elif interrupted:
        index = min(index, passed)
    return strict(objective, times, index)
