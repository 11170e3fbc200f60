"""
Stop as soon as enough is known: the exact binomial test at several looks, with its error spent across them.

Looking k times at one stream and stopping at the first "proof" would be wrong more often than α. So the looks
share α: the i-th of them, at nᵢ samples, may use α·(nᵢ − nᵢ₋₁)/n_max, and by the union bound the chance of a false
"met" (or a false "missed") over all looks stays below α. Looks grow by half each time. At each, the counts are first
reduced to what dependent requests weigh: in a queue near its limit that is a tenth or less. Of the two weights in
`verdict` it is the one by the flag "bad": a look steers a search; what is claimed in the end is proven by a
confirmation, which is weighed with caution.

Requests are counted in order of due time, each as soon as its fate is known: when answered, or when it is older
than the threshold, which makes it bad whatever comes. Counting answers in order of arrival would favour fast ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from slo.bench.exchange import Exchange
from slo.bench.verdict import effective_size, judge_dependent
from slo.objective import Objective, Verdict

FIRST_LOOK = 100
MOST = 3000


class SequentialTest:
    """Fed with one good/bad after another; `verdict` is UNPROVEN until a look decides.

    Before `met_from` samples only a miss may be concluded: an overloaded queue looks fine until it has filled.
    """

    def __init__(self, objective: Objective, *, most: int = MOST, first: int = FIRST_LOOK, met_from: int = 0) -> None:
        self.objective = objective
        self._met_from = met_from
        self.settings = {"most": most, "first": first, "met_from": met_from}
        self.verdict = Verdict.UNPROVEN
        self.bad = bytearray()  # 1 for bad, in order of due time
        self.looks = look_sizes(first, most)

    @property
    def total(self) -> int:
        return len(self.bad)

    @property
    def good(self) -> int:
        return len(self.bad) - sum(self.bad)

    @property
    def ended(self) -> bool:
        """Decided, or out of samples."""
        return self.verdict is not Verdict.UNPROVEN or self.total >= self.looks[-1]

    def add(self, *, good: bool) -> None:
        """Count one request; what comes after the end is ignored."""
        if self.ended:
            return
        self.bad.append(not good)
        if self.total in self.looks:
            self._look(self.looks.index(self.total))

    def _look(self, index: int) -> None:
        before = self.looks[index - 1] if index else 0
        alpha = (1 - self.objective.confidence) * (self.total - before) / self.looks[-1]
        strict = replace(self.objective, confidence=1 - alpha)
        verdict = judge_dependent(self.good, self.total, effective_size(self.bad), strict).verdict
        if verdict is not Verdict.MET or self.total >= self._met_from:
            self.verdict = verdict


class SequentialOutcomes:
    """Feeds a test from exchanges under way. Call `began` in order of due time, `settle` now and then."""

    def __init__(self, test: SequentialTest) -> None:
        self.test = test
        self._pending: deque[Exchange] = deque()

    def began(self, exchange: Exchange) -> None:
        """`exchange` has been dispatched."""
        self._pending.append(exchange)

    def settle(self, now_s: float) -> None:
        """Count what is decided by `now_s`, up to the first request whose fate is open. Cached answers are skipped."""
        objective = self.test.objective
        while self._pending:
            exchange = self._pending[0]
            if exchange.finished:
                if not exchange.cached:
                    self.test.add(good=exchange.sample().good(objective))
            elif now_s - exchange.due_s > objective.threshold_s:
                self.test.add(good=False)
            else:
                return
            self._pending.popleft()


def look_sizes(first: int, most: int) -> list[int]:
    """100, 150, 225 … up to `most`."""
    sizes = [min(first, most)]
    while sizes[-1] < most:
        sizes.append(min(most, sizes[-1] * 3 // 2))
    return sizes
