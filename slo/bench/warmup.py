"""The warm-up: the same load, not counted, until its latency has settled or its time is up."""

from __future__ import annotations

import math
from statistics import fmean

from slo.bench.exchange import Exchange
from slo.bench.stationary import settled

LONGEST_S = 60.0
SHORTEST_S = 5.0
PER_BLOCK = 5  # requests that make a block mean worth looking at


class WarmUp:
    """Hears of ended exchanges; `over(now)` says when to begin to measure.

    `wanted_s` None: when `settled` says so, after 5 s at least and 60 s at most; else after that time.
    """

    def __init__(self, wanted_s: float | None, *, rate: float, started_s: float) -> None:
        self.settled: bool | None = None  # None: not asked
        self._wanted_s = wanted_s
        self._started_s = started_s
        self._block_s = max(1.0, PER_BLOCK / rate)
        self._blocks: dict[int, list[float]] = {}
        self._asked = 0

    @property
    def longest_s(self) -> float:
        return LONGEST_S if self._wanted_s is None else self._wanted_s

    def heard(self, exchange: Exchange) -> None:
        """Note the latency of `exchange` by the block in which it was due."""
        block = math.floor((exchange.due_s - self._started_s) / self._block_s)
        self._blocks.setdefault(block, []).append(exchange.latency_s)

    def over(self, now_s: float) -> bool:
        """Has it lasted long enough? The block under way is not looked at."""
        passed_s = now_s - self._started_s
        if self._wanted_s is not None or passed_s >= LONGEST_S:
            return passed_s >= self.longest_s
        current = math.floor(passed_s / self._block_s)
        if current == self._asked or passed_s < SHORTEST_S:
            return False
        self._asked = current
        self.settled = settled([fmean(self._blocks[i]) for i in sorted(self._blocks) if i < current])
        return self.settled
