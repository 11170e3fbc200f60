"""
The highest load that still meets the objective.

*Search*: the floor is tried first (if it fails there is nothing to search), then the rate doubles until a probe
fails, then the gap is halved until it is 5 % wide. A probe is one short Poisson run, ended by a sequential test; one
that ends unproven goes by its share of good requests, one that is void has failed. So the search estimates a place,
`best`. What is *proven* is `rate`: a full run at 0.95 × best, less if that is not met, with at least 2000 requests.

*Ladder*: the largest number of closed-loop callers, out of 1, 2, 5, 10, 20, 50, whose requests meet the objective.

`probe(rate)` and `probe(clients)` are arguments: the search needs no server, and no clock but for its cool-down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slo.objective import Verdict

LADDER = (1, 2, 5, 10, 20, 50)
PRECISION = 0.05
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
    """`best` is the estimate, `rate` what a full run proved if `confirmed`; `bounded`: a higher one failed."""

    rate: float
    best: float
    bounded: bool
    confirmed: bool
    probes: tuple[Probe, ...]

    @property
    def recommended(self) -> float:
        """With 20 % headroom."""
        return self.rate * HEADROOM

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "rate": self.rate, "best": self.best, "bounded": self.bounded, "confirmed": self.confirmed,
            "recommended": self.recommended, "probes": [probe.to_json() for probe in self.probes],
        }  # fmt: skip


Prober = Callable[[float], Probe]


def find_capacity(
    probe: Prober,
    confirm: Prober,
    *,
    floor: float = 1.0,
    ceiling: float = 2000.0,
    precision: float = PRECISION,
    cool_down: Callable[[], None] = lambda: None,
) -> Capacity:
    """Highest rate, in requests per second, that meets the objective; 0 if even `floor` does not.

    `cool_down` is called between any two probes.
    """
    probes: list[Probe] = []

    def tried(rate: float, how: Prober) -> Probe:
        if probes:
            cool_down()
        probes.append(how(rate))
        return probes[-1]

    if not tried(floor, probe).likely:
        return Capacity(rate=0.0, best=0.0, bounded=True, confirmed=False, probes=tuple(probes))
    low, high = floor, math.inf
    while high == math.inf and low < ceiling:
        rate = min(2 * low, ceiling)
        low, high = (rate, high) if tried(rate, probe).likely else (low, rate)
    while high < math.inf and high - low > precision * high:
        middle = (low + high) / 2
        low, high = (middle, high) if tried(middle, probe).likely else (low, middle)
    rate, confirmed = low, False
    for _ in range(CONFIRMATIONS):
        rate *= CONFIRM_AT
        confirmed = tried(rate, confirm).met
        if confirmed:
            break
    return Capacity(rate=rate, best=low, bounded=high < math.inf, confirmed=confirmed, probes=tuple(probes))


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
