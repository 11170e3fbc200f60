"""
Where the objective stops to be met: a line through the bad ratios of all probes near that place.

Near its limit a queue's share of late requests grows exponentially with the rate (M/M/1: e^−(μ−λ)t), and a service
that refuses what would be late follows the same curve for a while. So the log-odds of "bad" are taken as a line over
the logarithm of the rate, fitted by logistic regression (Newton's method) in which each probe weighs as its effective
number of independent requests. The slope has a weak prior, 15 ± 10 per e-fold of the rate, around the 11 to 24 of
M/M/1 and M/D/1 queues at 150 ms: two probes side by side could not give one. The edge is where the line crosses the
tolerated bad ratio, its interval by the delta method.

Late requests come in clusters, so n of them weigh as n/D independent ones. One D is taken for all probes, since a
probe that was lucky shows no clusters: weighing each by its own would favour the lucky ones and shift the edge up.
An autocorrelation summed over the few clusters of a probe comes out too small; over 400 simulated searches intervals
held as often as they say once D was taken 1.8 times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SLOPE, SLOPE_SPREAD = 15.0, 10.0
LEAST_SLOPE = 2.0
NEAR = 0.3  # in logarithms: the line holds from about 0.74 to 1.35 of the edge
STEPS = 50
UNSEEN = 1.8
Z95 = 1.96


@dataclass(frozen=True, kw_only=True)
class EdgePoint:
    """What a probe at one rate gave: `bad` of `total` requests, that weigh as `effective` independent ones."""

    rate: float
    bad: int
    total: int
    effective: float

    @property
    def clustering(self) -> float:
        """D by this probe alone; 1 where nothing was bad."""
        return max(1.0, self.total / self.effective) if self.effective > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The estimated rate with its 95 % interval, in requests per second."""

    rate: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half the interval, as a share of the rate."""
        return (self.high - self.low) / 2 / self.rate


def fit_edge(points: Sequence[EdgePoint], around: float, tolerated: float) -> Edge | None:
    """The rate at which the bad ratio is `tolerated`, from the points near `around`; None if there is none."""
    close = [point for point in points if abs(math.log(point.rate / around)) < NEAR and point.total]
    if not close:
        return None
    shared = clustering(close)
    near = [(math.log(p.rate / around), p.bad / p.total, p.total / shared) for p in close]
    goal = math.log(tolerated / (1 - tolerated))
    a, b = goal, SLOPE
    for _ in range(STEPS):
        # One pseudo-request at the tolerated ratio keeps the level finite when all probes were spotless.
        g_a, g_b = tolerated - _share(a), (SLOPE - b) / SLOPE_SPREAD**2
        h_aa, h_ab, h_bb = _share(a) * (1 - _share(a)), 0.0, 1 / SLOPE_SPREAD**2
        for x, ratio, weight in near:
            p = _share(a + b * x)
            h = weight * p * (1 - p)
            g_a, g_b = g_a + weight * (ratio - p), g_b + weight * (ratio - p) * x
            h_aa, h_ab, h_bb = h_aa + h, h_ab + h * x, h_bb + h * x * x
        det = h_aa * h_bb - h_ab * h_ab
        d_a, d_b = (h_bb * g_a - h_ab * g_b) / det, (h_aa * g_b - h_ab * g_a) / det
        shrink = min(1.0, 2.0 / max(abs(d_a), abs(d_b) / 5, 1e-12))
        a, b = a + shrink * d_a, max(LEAST_SLOPE, b + shrink * d_b)
        if max(abs(d_a), abs(d_b)) < 1e-9:
            break
    place = (goal - a) / b
    # Gradient of the place by (a, b) is (−1, −place) / b; the covariance is the inverse of the Hessian.
    variance = (h_bb - 2 * place * h_ab + place * place * h_aa) / det / (b * b)
    half = Z95 * math.sqrt(max(0.0, variance))
    low, rate, high = (around * math.exp(place + shift) for shift in (-half, 0.0, half))
    return Edge(rate=rate, low=low, high=high)


def clustering(points: Sequence[EdgePoint]) -> float:
    """D over all points, each weighing by what was bad in it and what was good."""
    weights = [point.bad * (point.total - point.bad) / point.total for point in points]
    if not sum(weights):
        return 1.0
    seen = sum(w * point.clustering for w, point in zip(weights, points, strict=True)) / sum(weights)
    return seen * UNSEEN if seen > 1 else 1.0


def _share(log_odds: float) -> float:
    if log_odds >= 0:
        return 1 / (1 + math.exp(-min(log_odds, 700.0)))
    odds = math.exp(max(log_odds, -700.0))
    return odds / (1 + odds)
