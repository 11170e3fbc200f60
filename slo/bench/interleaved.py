"""
A against B in turns, so that changes of the machine fall on both alike.

Each round measures both, in an order drawn anew. The P95s of the pooled samples are compared; the interval of their
ratio B/A comes from drawing whole *rounds* again (a round is what is independent, a request is not), 4000 times with
a fixed seed, and is widened as Student's interval of so few rounds is against the normal one: drawing from eight
again, alone, would find a difference between equals in one of nine cases. Failures are infinitely slow, cached answers
are left out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slo.bench.stationary import student
from slo.errors import RunError
from slo.samples import Sample
from slo.stats import rank

RESAMPLES = 4000
SEED = 20_240_501
LEAST_ROUNDS = 5
CONFIDENCE = 0.95

Measure = Callable[[int], list[Sample]]


class Outcome(Enum):
    """What the interval of P95(B)/P95(A) says."""

    FASTER = "B is faster"
    SLOWER = "B is slower"
    NONE = "no significant difference"


@dataclass(frozen=True, kw_only=True)
class Duel:
    """Pooled P95s in ms, their ratio B/A with its interval, and the samples by round."""

    a_p95_ms: float
    b_p95_ms: float
    low: float
    high: float
    rounds: tuple[tuple[list[Sample], list[Sample]], ...]

    @property
    def outcome(self) -> Outcome:
        if self.low > 1:
            return Outcome.SLOWER
        return Outcome.FASTER if self.high < 1 else Outcome.NONE

    def to_json(self) -> dict[str, Any]:
        """Figures only."""
        return {
            "a_p95_ms": self.a_p95_ms, "b_p95_ms": self.b_p95_ms, "ratio_low": self.low, "ratio_high": self.high,
            "rounds": len(self.rounds), "outcome": self.outcome.value,
        }  # fmt: skip


def interleave(
    measure_a: Measure,
    measure_b: Measure,
    *,
    rounds: int,
    seed: int,
    on_round: Callable[[int], None] = lambda _done: None,
) -> Duel:
    """Measure both `rounds` times; each is called with the number of the round (for its seed).

    Raises `RunError` for fewer than five rounds, when one side brought no samples at all, or when both have no P95.
    """
    if rounds < LEAST_ROUNDS:
        raise RunError(f"{rounds} rounds cannot tell chance from difference", hint=f"at least {LEAST_ROUNDS}")
    order = random.Random(f"{seed}/order")
    pairs: list[tuple[list[Sample], list[Sample]]] = []
    for number in range(rounds):
        if order.random() < 0.5:
            a = measure_a(number)
            b = measure_b(number)
        else:
            b = measure_b(number)
            a = measure_a(number)
        pairs.append((a, b))
        on_round(number + 1)
    return duel(pairs)


def duel(pairs: Sequence[tuple[list[Sample], list[Sample]]]) -> Duel:
    """The comparison of samples that were taken by rounds."""
    sides = [[_latencies(pair[side]) for pair in pairs] for side in (0, 1)]
    if any(sum(map(len, side)) == 0 for side in sides):
        raise RunError("one side has no computed answers to compare")
    draw = np.random.default_rng(SEED)
    ratios = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        chosen = draw.integers(0, len(pairs), len(pairs))
        a, b = (_p95(np.concatenate([side[i] for i in chosen])) for side in sides)
        ratios[index] = 1.0 if a == b else b / a if a > 0 else np.inf
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail], method="inverted_cdf")
    a_p95_ms, b_p95_ms = (_p95(np.concatenate(side)) for side in sides)
    if math.isinf(a_p95_ms) and math.isinf(b_p95_ms):
        raise RunError("over 5 % of both sides' requests failed: there is no P95 to compare", hint="a lower --rate")
    ratio = b_p95_ms / a_p95_ms if 0 < a_p95_ms < np.inf else np.nan
    widen = of_few(len(pairs), 1 - CONFIDENCE)
    return Duel(
        a_p95_ms=a_p95_ms,
        b_p95_ms=b_p95_ms,
        low=further(float(low), ratio, widen),
        high=further(float(high), ratio, widen),
        rounds=tuple(pairs),
    )


def of_few(parts: float, error: float) -> float:
    """How much wider Student's interval of so few parts is than the normal one that drawing from them again gives."""
    if parts <= 1:
        return math.inf
    return student(1 - error, parts - 1) / NormalDist().inv_cdf(1 - error / 2) * math.sqrt(parts / (parts - 1))


def further(bound: float, ratio: float, factor: float) -> float:
    """A bound moved away from the ratio by `factor`, in logarithms; as it is where one of them is 0 or infinite."""
    if not (0 < bound < math.inf and 0 < ratio < math.inf) or bound == ratio:
        return bound
    if math.isinf(factor):
        return math.inf if bound > ratio else 0.0
    return ratio * math.pow(bound / ratio, factor)


def _latencies(samples: list[Sample]) -> NDArray[np.float64]:
    return np.array([s.latency_ms if s.ok else np.inf for s in samples if not s.cached], dtype=np.float64)


def _p95(values: NDArray[np.float64]) -> float:
    if not values.size:
        return float("inf")
    position = rank(values.size, 0.95) - 1
    return float(np.partition(values, position)[position])
