"""
The highest load that still meets the objective.

*Search*: the floor is tried first (if it fails there is nothing to search), then the rate doubles until a probe
fails, then the gap is halved until it is 20 % wide. These probes are short Poisson runs, ended by a sequential test as
soon as they are clear. Near the edge they are not, so what follows looks at *how many* requests were late: two to
five probes of 40 seconds, each at the edge that a line through the bad ratios of all probes gives (see `edge`), until
its 95 % interval is ± 5.5 %; a probe that is met above the gap moves it up. What is *proven* is `rate`: a full run at
0.95 × the edge, less if that is not met, with at least 2000 requests. The confirmations join the line, and `best` is
its final edge.

Against simulated M/D/1 and M/M/1 queues with known answers `best` is within ± 7 % in 99 of 100 searches, and half of
them within 2 % (`tests/bench/test_capacity.py`). At 50 to 100 requests per second a search takes some 5 minutes and
its confirmation 2 to 3, cool-downs apart; at lower rates the confirmation is longer, for its 2000 requests.

*Ladder*: the largest number of closed-loop callers, out of 1, 2, 5, 10, 20, 50, whose requests meet the objective.

`probe(rate)` and `probe(clients)` are arguments: the search needs no server, and no clock but for its cool-down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from slo.bench.edge import Edge, EdgePoint, fit_edge
from slo.objective import Verdict

LADDER = (1, 2, 5, 10, 20, 50)
COARSE = 0.2  # width of the bracket, as a share of its upper end, from which on the line is followed
PRECISION = 0.055  # half width of the edge's 95 % interval
FINE = (2, 5)  # least and most probes at the edge
CONFIRM_AT = 0.95
CONFIRMATIONS = 3
HEADROOM = 0.8  # share of the capacity to plan for in daily use


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One load and what it showed. `load` is a rate or a number of callers, `purpose` search, confirm or ladder."""

    load: float
    verdict: Verdict
    total: int
    good: int
    p95_ms: float
    seconds: float = 0.0
    purpose: str = "search"
    remark: str = ""
    target: float = 0.95
    void: bool = False
    effective: float = 0.0  # independent requests that the total weighs as; 0: not known, all of them
    computed: float = 1.0  # share of the answers that no cache gave, where repeats were not asked for
    evidence: dict[str, Any] = field(default_factory=dict, compare=False)  # what all this follows from

    @property
    def met(self) -> bool:
        return self.verdict is Verdict.MET

    @property
    def likely(self) -> bool:
        """Met, or unproven with enough good requests."""
        return self.met or (
            self.verdict is Verdict.UNPROVEN and not self.void and 0 < self.total * self.target <= self.good
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite P95 as null."""
        return asdict(self) | {
            "verdict": self.verdict.value,
            "p95_ms": self.p95_ms if self.p95_ms < math.inf else None,
        }


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """`best` is the estimate with its interval, `rate` what a full run proved if `confirmed`.

    `bounded`: a higher rate failed; if not, `best` is the ceiling of the search and has no interval. All four are rates
    of what was `computed`: where a cache gave some of the answers, less than the rates of the probes.
    """

    rate: float
    best: float
    low: float
    high: float
    bounded: bool
    confirmed: bool
    probes: tuple[Probe, ...]
    computed: float = 1.0

    @property
    def recommended(self) -> float:
        """With 20 % headroom."""
        return self.rate * HEADROOM

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rate": self.rate, "best": self.best, "low": self.low, "high": self.high, "bounded": self.bounded,
            "confirmed": self.confirmed, "computed": self.computed,
            "recommended": self.recommended, "probes": [probe.to_json() for probe in self.probes],
        }  # fmt: skip


Prober = Callable[[float], Probe]


def find_capacity(
    probe: Prober,
    confirm: Prober,
    *,
    fine: Prober | None = None,
    floor: float = 1.0,
    ceiling: float = 2000.0,
    precision: float = PRECISION,
    cool_down: Callable[[], None] = lambda: None,
) -> Capacity:
    """Highest rate, in requests per second, that meets the objective; 0 if even `floor` does not.

    `probe` may end as soon as it is decided, `fine` (default: `probe`) runs to its end, `confirm` proves. `cool_down`
    is called between any two probes.
    """
    probes: list[Probe] = []

    def tried(rate: float, how: Prober) -> Probe:
        if probes:
            cool_down()
        probes.append(how(rate))
        return probes[-1]

    if not tried(floor, probe).likely:
        nothing = Edge(rate=0.0, low=0.0, high=0.0)
        return _capacity(0.0, nothing, bounded=True, confirmed=False, probes=probes)
    low, high = floor, math.inf
    while high == math.inf and low < ceiling:
        rate = min(2 * low, ceiling)
        low, high = (rate, high) if tried(rate, probe).likely else (low, rate)
    while high < math.inf and high - low > COARSE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if tried(middle, probe).likely else (low, middle)
    low, high = _followed(lambda rate: tried(rate, fine or probe), probes, (low, high), ceiling, precision)
    # A void probe is the generator's failure: then the server's capacity is at least what was reached.
    bounded = high < math.inf and any(not probe.likely for probe in _valid(probes))
    rate, confirmed = _edge(probes, low, high).rate, False
    for _ in range(CONFIRMATIONS):
        rate *= CONFIRM_AT
        confirmed = tried(rate, confirm).met
        if confirmed:
            break
    return _capacity(rate, _edge(probes, low, high), bounded=bounded, confirmed=confirmed, probes=probes)


def _followed(
    tried: Prober, probes: Sequence[Probe], bracket: tuple[float, float], ceiling: float, precision: float
) -> tuple[float, float]:
    """Probe along the line until its edge is known well enough; the bracket, moved where it proved wrong."""
    low, high = bracket
    number = 0
    while number < FINE[1] and high < math.inf:
        last = tried(min(max(_fit(probes, low, high).rate, 0.9 * low), 1.1 * high, ceiling))
        number += 1
        if last.met and last.load >= min(high, ceiling):
            # The probe that failed there had met a stall: the edge lies beyond.
            low, high, number = last.load, last.load / (1 - COARSE) if last.load < ceiling else math.inf, 0
        found = _fit(probes, low, high)
        if number >= FINE[0] and found.spread <= precision and found.rate <= high:
            break
    return low, high


def _fit(probes: Sequence[Probe], low: float, high: float) -> Edge:
    """The edge by all valid probes; `low` where nothing failed."""
    points = [
        EdgePoint(rate=p.load, bad=p.total - p.good, total=p.total, effective=p.effective or p.total)
        for p in _valid(probes)
    ]
    found = None if high == math.inf else fit_edge(points, math.sqrt(low * high), 1 - probes[0].target)
    return found or Edge(rate=low, low=low, high=low)


def _edge(probes: Sequence[Probe], low: float, high: float) -> Edge:
    """The same, never beyond the highest rate that was validly tried."""
    found, highest = _fit(probes, low, high), max((probe.load for probe in _valid(probes)), default=low)
    return found if found.rate <= highest else Edge(rate=highest, low=min(found.low, highest), high=found.high)


def _valid(probes: Sequence[Probe]) -> list[Probe]:
    return [probe for probe in probes if not probe.void and probe.total]


def _capacity(rate: float, edge: Edge, *, bounded: bool, confirmed: bool, probes: list[Probe]) -> Capacity:
    # What was proven counts more than what is estimated.
    best, computed = max(edge.rate, rate) if confirmed else edge.rate, probes[-1].computed
    return Capacity(
        rate=rate * computed, best=best * computed, low=min(best, edge.low) * computed,
        high=max(best, edge.high) * computed, bounded=bounded, confirmed=confirmed, probes=tuple(probes),
        computed=computed,
    )  # fmt: skip


def climb(
    probe: Callable[[int], Probe],
    *,
    rungs: Sequence[int] = LADDER,
    cool_down: Callable[[], None] = lambda: None,
) -> list[Probe]:
    """One closed-loop probe per rung, upwards; two misses in a row end it, since higher rungs only miss by more."""
    probes: list[Probe] = []
    for clients in rungs:
        if probes:
            cool_down()
        probes.append(probe(clients))
        if len(probes) >= 2 and all(p.verdict is Verdict.MISSED for p in probes[-2:]):
            break
    return probes


def largest_met(probes: Sequence[Probe]) -> int:
    """The largest rung that was met with all below it met as well; 0 for none."""
    best = 0
    for probe in probes:
        if not probe.met:
            break
        best = int(probe.load)
    return best
