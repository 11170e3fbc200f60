"""
The last hour, second by second: counts and fine histograms that add, so any window is an exact sum.

A *series* is a tuple of names; each second keeps how many observations fell into which bin of which series (see
`Edges`). A second that is over is packed into two small arrays; a sum over them takes numpy about 1 ms.

`Edges` are those of all latency histograms of one server: standard ones, exact ones at the objectives' thresholds, fine
ones. Fine edges grow by 2 % from 0.1 ms to 60 s. Both share the standard edges and the thresholds, so that "≤ 120 ms"
is a count and not an estimate, and fine histograms sum up to coarse ones without loss.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slo.stats import edges_with, rank

GROWTH = 1.02
SHORTEST_S, LONGEST_S = 1e-4, 60.0
SECONDS = 3600
_STRIDE = 1024  # numbers of a series: one per bin, and one for plain counts

Series = tuple[str, ...]


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


@dataclass(frozen=True, slots=True)
class BinCounts:
    """Observations of one series, or of several added up."""

    bins: NDArray[np.int64]
    edges: Edges = STANDARD

    @property
    def total(self) -> int:
        return int(self.bins.sum())

    def within(self, limit_s: float) -> int:
        """How many were ≤ `limit_s`, which must be an edge."""
        return int(self.bins[: self.edges.within(limit_s)].sum())

    def quantile_s(self, q: float) -> float | None:
        """Nearest rank, as the upper edge of its bin: at most 2 % too long. None without observations."""
        total = self.total
        if total == 0:
            return None
        index = int(np.searchsorted(np.cumsum(self.bins), rank(total, q)))
        return self.edges.longest_s(index)

    def __add__(self, other: BinCounts) -> BinCounts:
        return BinCounts(self.bins + other.bins, self.edges)


def no_counts(edges: Edges = STANDARD) -> BinCounts:
    """Nothing observed."""
    return BinCounts(np.zeros(edges.bins, dtype=np.int64), edges)


class Window:
    """The ring of seconds. `now_s` arguments are monotonic and never go back."""

    def __init__(self, edges: Edges = STANDARD) -> None:
        self._edges = edges
        self._counter = edges.bins  # pseudo-bin: a plain count
        self._series: dict[Series, int] = {}
        self._second = -1
        self._open: dict[int, int] = {}
        self._closed: deque[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = deque(maxlen=SECONDS)

    def observe(self, series: Series, seconds: float, now_s: float) -> None:
        """One observation of a duration."""
        self._add(series, self._edges.bin(seconds), 1, now_s)

    def count(self, series: Series, amount: int, now_s: float) -> None:
        """Something happened `amount` times."""
        self._add(series, self._counter, amount, now_s)

    def sums(self, seconds: int, now_s: float) -> tuple[dict[Series, BinCounts], dict[Series, int]]:
        """Histograms and counters by series over the last whole `seconds`, the current one included."""
        self._roll(int(now_s))
        since = int(now_s) - seconds
        parts = [(keys, counts) for second, keys, counts in self._closed if second > since]
        if self._open:
            parts.append(_packed(self._open))
        table = np.zeros((len(self._series), _STRIDE), dtype=np.int64)
        if parts:
            keys = np.concatenate([part[0] for part in parts])
            weights = np.concatenate([part[1] for part in parts])
            table = np.bincount(keys, weights=weights, minlength=table.size).astype(np.int64).reshape(-1, _STRIDE)
        histograms: dict[Series, BinCounts] = {}
        counters: dict[Series, int] = {}
        for series, index in self._series.items():
            row = table[index]
            if row[self._counter]:
                counters[series] = int(row[self._counter])
            if row[: self._counter].any():
                histograms[series] = BinCounts(row[: self._counter].copy(), self._edges)
        return histograms, counters

    def _add(self, series: Series, bin_: int, amount: int, now_s: float) -> None:
        if int(now_s) != self._second:
            self._roll(int(now_s))
        index = self._series.get(series)
        if index is None:
            index = self._series[series] = len(self._series)
        key = index * _STRIDE + bin_
        self._open[key] = self._open.get(key, 0) + amount

    def _roll(self, second: int) -> None:
        """Close the open second if `second` is a later one."""
        if second > self._second:
            if self._open:
                self._closed.append((self._second, *_packed(self._open)))
                self._open = {}
            self._second = second
            while self._closed and self._closed[0][0] <= second - SECONDS:
                self._closed.popleft()


def _packed(entries: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = np.fromiter(entries.keys(), dtype=np.int64, count=len(entries))
    return keys, np.fromiter(entries.values(), dtype=np.int64, count=len(entries))
