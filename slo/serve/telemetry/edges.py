"""
The edges of all latency histograms of one server: standard ones, exact ones at the objectives' thresholds, fine ones.

Fine edges grow by 2 % from 0.1 ms to 60 s. Both share the standard edges and the thresholds, so that "≤ 120 ms" is a
count and not an estimate, and fine histograms sum up to coarse ones without loss.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from slo.stats import edges_with

GROWTH = 1.02
SHORTEST_S, LONGEST_S = 1e-4, 60.0


class Edges:
    """`coarse_s` and `fine_s`, in seconds and ascending; `bins` fine bins, the last one beyond all edges."""

    def __init__(self, thresholds_ms: Iterable[float] = ()) -> None:
        self.coarse_s = edges_with(thresholds_ms)
        self.fine_s: tuple[float, ...] = tuple(sorted({*self.coarse_s, *_GRID}))
        self.bins = len(self.fine_s) + 1
        self.ends = tuple(self.fine_s.index(edge) + 1 for edge in self.coarse_s)  # of fine bins within each

    def bin(self, seconds: float) -> int:
        """The fine bin of a duration."""
        return bisect_left(self.fine_s, seconds)

    def within(self, limit_s: float) -> int:
        """How many fine bins lie within `limit_s`, which must be an edge."""
        return self.fine_s.index(limit_s) + 1

    def middles_s(self) -> NDArray[np.float64]:
        """The middle of each fine bin; of the last one its lower end."""
        ends = np.array((0.0, *self.fine_s, self.fine_s[-1]), dtype=np.float64)
        middles: NDArray[np.float64] = (ends[:-1] + ends[1:]) / 2
        return middles

    def longest_s(self, index: int) -> float:
        """The upper edge of a fine bin; of the last one its lower end."""
        return self.fine_s[min(index, len(self.fine_s) - 1)]


def _grid() -> tuple[float, ...]:
    found, value = [], SHORTEST_S
    while value < LONGEST_S:
        found.append(value)
        value *= GROWTH
    return tuple(found)


_GRID = _grid()
STANDARD = Edges()
