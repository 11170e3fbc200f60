"""
The last hour, second by second: counts and fine histograms that add, so any window is an exact sum.

A *series* is a tuple of names; each second keeps how many observations fell into which bin of which series. Bins
grow by 2 % from 0.1 ms to 60 s and have an edge at every value of `LATENCY_EDGES_S`, so that "≤ 150 ms" is a count
and not an estimate. A second that is over is packed into two small arrays; a sum over them takes numpy about 1 ms.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slo.stats import LATENCY_EDGES_S, rank

SECONDS = 3600
GROWTH = 1.02
_BITS = 10

Series = tuple[str, ...]


def _fine_edges() -> tuple[float, ...]:
    edges, value = set(LATENCY_EDGES_S), 1e-4
    while value < 60:
        edges.add(value)
        value *= GROWTH
    return tuple(sorted(edges))


FINE_EDGES_S = _fine_edges()
BINS = len(FINE_EDGES_S) + 1  # the last one: longer than all edges
_COUNTER = BINS  # pseudo-bin: a plain count
_STRIDE = 1 << _BITS
assert _STRIDE > _COUNTER  # noqa: S101 - a bin must fit its bits


@dataclass(frozen=True, slots=True)
class Counts:
    """Observations of one series, or of several added up."""

    bins: NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.bins.sum())

    def within(self, limit_s: float) -> int:
        """How many were ≤ `limit_s`, which must be an edge."""
        return int(self.bins[: FINE_EDGES_S.index(limit_s) + 1].sum())

    def quantile_s(self, q: float) -> float | None:
        """Nearest rank, as the upper edge of its bin: at most 2 % too long. None without observations."""
        total = self.total
        if total == 0:
            return None
        index = int(np.searchsorted(np.cumsum(self.bins), rank(total, q)))
        return FINE_EDGES_S[min(index, len(FINE_EDGES_S) - 1)]

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.bins + other.bins)


def no_counts() -> Counts:
    """Nothing observed."""
    return Counts(np.zeros(BINS, dtype=np.int64))


class Window:
    """The ring of seconds. `now_s` arguments are monotonic and never go back."""

    def __init__(self) -> None:
        self._series: dict[Series, int] = {}
        self._second = -1
        self._open: dict[int, int] = {}
        self._closed: deque[tuple[int, NDArray[np.int64], NDArray[np.int64]]] = deque(maxlen=SECONDS)

    def observe(self, series: Series, seconds: float, now_s: float) -> None:
        """One observation of a duration."""
        self._add(series, bisect_left(FINE_EDGES_S, seconds), 1, now_s)

    def count(self, series: Series, amount: int, now_s: float) -> None:
        """Something happened `amount` times."""
        self._add(series, _COUNTER, amount, now_s)

    def sums(self, seconds: int, now_s: float) -> tuple[dict[Series, Counts], dict[Series, int]]:
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
        histograms: dict[Series, Counts] = {}
        counters: dict[Series, int] = {}
        for series, index in self._series.items():
            row = table[index]
            if row[_COUNTER]:
                counters[series] = int(row[_COUNTER])
            if row[:BINS].any():
                histograms[series] = Counts(row[:BINS].copy())
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
