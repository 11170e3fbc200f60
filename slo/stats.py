"""
The statistics behind a verdict, in plain Python: no rounding before a comparison, no averaging of percentiles.

* Percentile: nearest rank, x₍⌈qn⌉₎ of the sorted values, so "P95 ≤ 150 ms" says exactly that at
  least 95 % of the samples are ≤ 150 ms. (numpy's default interpolates and can flip a verdict.)
* Interval of a percentile: order statistics, from the binomial distribution of the rank.
* Proof: exact binomial tail (Clopper-Pearson one-sided test), as in MLPerf LoadGen's early stopping.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

# Seconds. The edges of every histogram; those at the objectives' thresholds come on top, see `edges_with`.
LATENCY_EDGES_S: tuple[float, ...] = (
    0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip


def edge_s(threshold_ms: float) -> float:
    """The edge, in seconds, at which requests within `threshold_ms` are counted: 12 digits, as a label writes it."""
    return float(edge_label(threshold_ms / 1000))


def edge_label(edge: float) -> str:
    """The value of the label `le` for an edge in seconds: `0.15`."""
    return f"{edge:.12g}"


def edges_with(thresholds_ms: Iterable[float]) -> tuple[float, ...]:
    """The standard edges, in seconds, and one at each of `thresholds_ms`."""
    return tuple(sorted({*LATENCY_EDGES_S, *map(edge_s, thresholds_ms)}))


def nearest_rank(ascending: Sequence[float], quantile: float) -> float:
    """The ⌈q·n⌉-th smallest value; NaN when there is none. `ascending` must be sorted."""
    if not ascending:
        return math.nan
    return ascending[rank(len(ascending), quantile) - 1]


def rank(n: int, quantile: float) -> int:
    """⌈q·n⌉, at least 1, computed without the float error of `0.07 * 100 == 7.000000000000001`."""
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile {quantile} is not within (0, 1]")
    return max(1, math.ceil(round(quantile * n, 9)))


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X ≤ k) for X ~ Binomial(n, p), summed in log space from the smaller tail; error below 1e-10."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    if p <= 0:
        return 1.0
    if p >= 1:
        return 0.0
    if k > n * p:  # the upper tail is the shorter sum
        return 1.0 - _tail_sum(n - k - 1, n, 1 - p)
    return _tail_sum(k, n, p)


def _tail_sum(k: int, n: int, p: float) -> float:
    """Sum of the pmf from k down to 0: term ratios, starting at the largest, until they vanish."""
    if k < 0:
        return 0.0
    log_top = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    )
    term = total = 1.0
    odds = (1 - p) / p
    for i in range(k, 0, -1):
        term *= i / (n - i + 1) * odds
        total += term
        if term < total * 1e-16:
            break
    return min(1.0, math.exp(log_top) * total)


def binomial_cdf_between(k: float, n: float, p: float) -> float:
    """P(X ≤ k) where k and n need not be whole: I₁₋ₚ(n − k, k + 1), equal to `binomial_cdf` where they are."""
    if k <= -1:
        return 0.0
    return 1.0 if k >= n else incomplete_beta(n - k, k + 1, 1 - p)


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function Iₓ(a, b) by Lentz's continued fraction (DLMF 8.17.22); within 1e-10."""
    if not 0 < x < 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on this side of the mean
        return 1 - incomplete_beta(b, a, 1 - x)
    tiny = 1e-300
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or tiny)
    fraction = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + step / c or tiny, 1 / (1 + step * d or tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return min(1.0, math.exp(log_front) * fraction / a)


def percentile_interval(
    ascending: Sequence[float], quantile: float, confidence: float = 0.95, *, weight: float = 1.0
) -> tuple[float, float]:
    """Lower and upper bound of the true percentile: order statistics whose ranks the binomial allows.

    A bound that the sample cannot give (too few values) is 0 or infinity. `weight` as in `rank_interval`.
    """
    n = len(ascending)
    low, high = rank_interval(n, quantile, confidence, weight=weight)
    return (ascending[low - 1] if low >= 1 else 0.0), (ascending[high - 1] if high <= n else math.inf)


def rank_interval(n: int, quantile: float, confidence: float = 0.95, *, weight: float = 1.0) -> tuple[int, int]:
    """Ranks (1…n) of the order statistics that bound the true percentile; 0 or n + 1 where n values give none.

    Values that depend on each other weigh as `weight`·n independent ones: their ranks are those in so few, scaled up.
    """
    m = n if weight >= 1 else math.floor(n * weight)
    if m == 0:
        return 0, n + 1
    alpha = (1 - confidence) / 2
    low = _largest_rank(lambda r: binomial_cdf(r - 1, m, quantile) <= alpha, m)
    high = _largest_rank(lambda r: binomial_cdf(r - 1, m, quantile) < 1 - alpha, m) + 1
    return low * n // m, (n + 1 if high > m else -(-high * n // m))


def _largest_rank(holds: Callable[[int], bool], n: int) -> int:
    """Largest r in 0..n with `holds(r)`, for a predicate that is true and then false."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def wilson(bad: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of the bad ratio: (p̂+z²/2n ± z√(p̂(1−p̂)/n+z²/4n²))/(1+z²/n)."""
    if total == 0:
        return 0.0, 1.0
    p, z2 = bad / total, z * z
    centre = p + z2 / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total))
    scale = 1 + z2 / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


@dataclass(slots=True)
class Histogram:
    """Counts of latencies by fixed edges (seconds, `le` as in Prometheus); histograms add, so windows do."""

    edges_s: tuple[float, ...] = LATENCY_EDGES_S
    counts: list[int] = field(default_factory=list)
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.edges_s) + 1)
        if len(self.counts) != len(self.edges_s) + 1:
            raise ValueError(f"{len(self.counts)} counts for {len(self.edges_s)} edges")

    @property
    def total(self) -> int:
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        """Count one latency; a value equal to an edge belongs to that edge."""
        self.counts[bisect_left(self.edges_s, seconds)] += 1
        self.sum_s += seconds

    def add(self, other: Histogram) -> None:
        """Count all that `other` counted."""
        if other.edges_s != self.edges_s:
            raise ValueError("histograms with different edges do not add")
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    def within(self, limit_s: float) -> int:
        """How many were ≤ `limit_s`; exact only at an edge, so anything else is refused."""
        if limit_s not in self.edges_s:
            raise ValueError(f"{limit_s} s is not an edge of this histogram")
        return sum(self.counts[: self.edges_s.index(limit_s) + 1])

    def quantile(self, q: float) -> float:
        """Estimate in seconds, linear within the bucket, for display; NaN when empty, ∞ in the last bucket."""
        total = self.total
        if total == 0:
            return math.nan
        target, below = rank(total, q), 0
        for index, count in enumerate(self.counts):
            if count and below + count >= target:
                if index == len(self.edges_s):
                    return math.inf
                low = self.edges_s[index - 1] if index else 0.0
                return low + (self.edges_s[index] - low) * (target - below) / count
            below += count
        raise AssertionError("unreachable")


def histogram_of(latencies_s: Iterable[float]) -> Histogram:
    """A histogram with the standard edges over `latencies_s`."""
    result = Histogram()
    for value in latencies_s:
        result.observe(value)
    return result


class Integral:
    """∫ level dt of a level that changes in steps."""

    def __init__(self) -> None:
        self._level = 0
        self._since_s: float | None = None
        self._area = 0.0

    def change(self, now_s: float, by: int) -> None:
        """The level changes by `by` at `now_s`."""
        self._area = self.value(now_s)
        self._since_s = now_s
        self._level += by

    def restart(self, now_s: float) -> None:
        """Count from zero again; the level stays."""
        self._area, self._since_s = 0.0, now_s

    def value(self, now_s: float) -> float:
        """The integral up to `now_s`."""
        return self._area + (self._level * (now_s - self._since_s) if self._since_s is not None else 0.0)
