"""
`slo plan`: how many replicas and cores a demand needs, from what a token costs here.

1. *Idle cost.* One caller sends texts of several lengths and batches; the median latency over the token count is
   fitted by a line, a + b·t: a per pass, b per token.
2. *Cost under load.* Sixteen callers keep the service busy for a while. The same line, run through the queue model,
   predicts their throughput; what is missing is a slowdown factor on the line (shared cores, the API's own work).
3. *Model.* One replica takes all that waits, up to a cap of tokens, in one pass (`queueing`). Its capacity C₁ is the
   highest Poisson rate whose P95 stays within the threshold. M/D/1, no batching, stands beside it as the low end.
4. *Demand.* replicas = ⌈R / (C₁ · 0.8)⌉: requests are dealt out at random and a fifth stays free. For N callers: the
   fewest replicas among which ⌈N/k⌉ closed-loop callers see a P95 within the threshold. Cores follow from those that
   one replica has now.
5. *Check.* One replica's predicted P95 at 0.8·C₁ against a measurement at that rate. Where they are more than a
   quarter apart, the plan says which way to doubt it.

**Closed-loop callers** (`concurrency`): how many a machine holds, and what more of them need. *Unique texts*: the
largest number of callers per replica whose P95 stays within the threshold, times the replicas. *More cores*: replicas
in proportion, each with as many cores as one has here, callers dealt out evenly. *Repeated texts*: an answer from the
cache comes after `hit_s` and bypasses the queue, so callers spend some of their time outside it. The share of hits from
which on the P95 of all answers is within the threshold is found by bisection; the P95 of the computed answers alone is
given beside it, since hits hide them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from slo.bench.queueing import Cost, batch_capacity, batch_p95, closed_latencies, md1_capacity
from slo.errors import RunError
from slo.objective import Objective
from slo.sentences import say
from slo.stats import nearest_rank

HEADROOM = 0.8
BUSY_CLIENTS = 16
SPECIAL_TOKENS = 2  # [CLS] and [SEP]; a Chinese character is one token
DOUBT = 1.25  # measured over predicted, from which on the model is doubted
MOST_CALLERS = 4096
PRECISION = 0.005  # of the share of hits


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Tokens of a request and the median seconds that it took alone."""

    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the model says. `capacity` is of one replica; `wish` is `80/s` or `50 callers`; P95s in ms."""

    wish: str
    idle: Cost
    slowdown: float
    capacity: float
    unbatched: float
    replicas: int
    cores: int
    cores_per_replica: int
    p95_ms: float
    check_rate: float = math.nan
    check_predicted_ms: float = math.nan
    check_measured_ms: float = math.nan

    @property
    def doubt(self) -> str:
        """What to say when the check went otherwise than predicted by more than a quarter; empty if it did not."""
        if not math.isfinite(self.check_predicted_ms):
            return ""
        if not math.isfinite(self.check_measured_ms):
            return say("plan.failed", rate=f"{self.check_rate:.1f}")
        ratio = self.check_measured_ms / self.check_predicted_ms
        if 1 / DOUBT <= ratio <= DOUBT:
            return ""
        return say("plan.most" if ratio > 1 else "plan.least", ratio=f"{ratio:.2f}")

    def to_json(self) -> dict[str, Any]:
        """Plain data, what is not known as null."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One replica under load: cost of a pass, the sizes of requests in tokens, the cap of a pass."""

    idle: Cost
    slowdown: float
    sizes: tuple[int, ...]
    most_tokens: int
    objective: Objective
    cores_per_replica: int
    seed: int = 1

    @property
    def cost(self) -> Cost:
        return slowed(self.idle, self.slowdown)

    @property
    def capacity(self) -> float:
        """Requests per second of one replica within the objective."""
        goal = self.objective
        return batch_capacity(
            self.sizes, self.cost, most_tokens=self.most_tokens, threshold_s=goal.threshold_s, target=goal.target,
            seed=self.seed,
        )  # fmt: skip

    @property
    def unbatched(self) -> float:
        """The same without batching: M/D/1 at the mean size."""
        goal = self.objective
        return md1_capacity(self.cost.pass_s(fmean(self.sizes)), goal.threshold_s, goal.target)

    def p95_ms(self, rate: float) -> float:
        """Predicted percentile of one replica at a Poisson `rate`, in ms."""
        goal = self.objective
        seconds = batch_p95(
            rate, self.sizes, self.cost, most_tokens=self.most_tokens, target=goal.target, seed=self.seed
        )
        return seconds * 1000

    def closed_p95_ms(self, clients: int) -> float:
        """Predicted percentile of one replica for closed-loop callers, in ms."""
        tokens = random.Random(self.seed).choices(self.sizes, k=max(6000, 4 * clients))
        latencies = closed_latencies(clients, tokens, self.cost, most_tokens=self.most_tokens)
        return nearest_rank(sorted(latencies[clients:]), self.objective.target) * 1000


def fit_line(points: Sequence[Timed]) -> Cost:
    """Least squares of seconds over tokens, relative errors; neither coefficient below zero. Needs two sizes."""
    if len({p.tokens for p in points}) < 2:
        raise RunError("the cost of a token needs requests of at least two sizes")
    weights = [1 / p.seconds**2 for p in points]
    total = sum(weights)
    x = sum(w * p.tokens for w, p in zip(weights, points, strict=True)) / total
    y = sum(w * p.seconds for w, p in zip(weights, points, strict=True)) / total
    spread = sum(w * (p.tokens - x) ** 2 for w, p in zip(weights, points, strict=True))
    slope = sum(w * (p.tokens - x) * (p.seconds - y) for w, p in zip(weights, points, strict=True)) / spread
    slope = max(slope, 1e-9)
    return Cost(fixed_s=max(0.0, y - slope * x), token_s=slope)


def slowed(cost: Cost, factor: float) -> Cost:
    """The same line, `factor` times as steep and as high."""
    return Cost(fixed_s=cost.fixed_s * factor, token_s=cost.token_s * factor, around_s=cost.around_s)


def slowdown(idle: Cost, sizes: Sequence[int], throughput: float, *, clients: int, most_tokens: int) -> float:
    """The factor on `idle` at which the model's closed-loop throughput is the measured one. Never below 0.2."""
    tokens = random.Random(1).choices(sizes, k=4000)
    latencies = closed_latencies(clients, tokens, idle, most_tokens=most_tokens)
    predicted = clients / fmean(latencies[clients:])  # Little's law: N = X·W
    return max(0.2, predicted / throughput)


def plan_rate(model: Model, rate: float) -> Planned:
    """Replicas for `rate` requests per second. Raises `RunError` when no number of replicas is enough."""
    capacity = model.capacity
    if capacity <= 0:
        raise _hopeless(model)
    replicas = max(1, math.ceil(rate / (capacity * HEADROOM) - 1e-9))
    return _planned(model, f"{rate:g}/s", capacity, replicas, model.p95_ms(rate / replicas))


def plan_clients(model: Model, clients: int) -> Planned:
    """Replicas for `clients` closed-loop callers. Raises `RunError` when no number of replicas is enough."""
    goal_ms = model.objective.threshold_ms
    if model.closed_p95_ms(1) > goal_ms:
        raise _hopeless(model)
    replicas = math.ceil(clients / callers_held(model, clients))
    p95_ms = model.closed_p95_ms(math.ceil(clients / replicas))
    return _planned(model, f"{clients} callers", model.capacity, replicas, p95_ms)


def callers_held(model: Model, most: int) -> int:
    """The largest number of callers, up to `most`, that one replica answers within the objective; 1 is held."""
    low, high = 1, 2
    while high <= most and model.closed_p95_ms(high) <= model.objective.threshold_ms:
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        held = model.closed_p95_ms(middle) <= model.objective.threshold_ms
        low, high = (middle, high) if held else (low, middle)
    return low


def _planned(model: Model, wish: str, capacity: float, replicas: int, p95_ms: float) -> Planned:
    return Planned(
        wish=wish,
        idle=model.idle,
        slowdown=model.slowdown,
        capacity=capacity,
        unbatched=model.unbatched,
        replicas=replicas,
        cores=replicas * model.cores_per_replica,
        cores_per_replica=model.cores_per_replica,
        p95_ms=p95_ms,
    )


def _hopeless(model: Model) -> RunError:
    alone_ms = model.cost.pass_s(max(model.sizes)) * 1000
    return RunError(
        f"{model.objective} cannot be met by more replicas: one request alone takes {alone_ms:.0f} ms under load",
        hint="a faster engine or precision, more cores per replica, or shorter texts",
    )


def median_of(tokens: int, seconds: Sequence[float]) -> Timed:
    """The point for the fit."""
    if not seconds:
        raise RunError(f"no request of {tokens} tokens was answered", hint="`slo baseline` shows why")
    return Timed(tokens=tokens, seconds=median(seconds))


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """`held` callers of unique texts on `cores`; `hit_ratio` lets `wished` be held there (NaN: not known).

    `p95_ms` of all answers and `computed_p95_ms` of the computed ones are those at `hit_ratio`.
    """

    wished: int
    held: int
    cores: int
    hit_ratio: float = math.nan
    p95_ms: float = math.nan
    computed_p95_ms: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """Plain data, what is not known as null."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


def concurrency(model: Model, wished: int, *, replicas: int, hit_s: float) -> Concurrency:
    """What `replicas` of the model hold. `hit_s` is the latency of a cached answer, NaN without a cache."""
    held = replicas * callers_held(model, MOST_CALLERS)
    cores = replicas * model.cores_per_replica
    goal_ms = model.objective.threshold_ms
    if not math.isfinite(hit_s) or hit_s * 1000 > goal_ms:
        return Concurrency(wished=wished, held=held, cores=cores)
    clients = math.ceil(wished / replicas)
    low, high = 0.0, 1.0  # at 1 nothing is computed
    if repeated_p95_ms(model, clients, low, hit_s)[0] <= goal_ms:
        high = low
    while high - low > PRECISION:
        middle = (low + high) / 2
        within = repeated_p95_ms(model, clients, middle, hit_s)[0] <= goal_ms
        low, high = (low, middle) if within else (middle, high)
    p95_ms, computed_ms = repeated_p95_ms(model, clients, high, hit_s)
    return Concurrency(
        wished=wished, held=held, cores=cores, hit_ratio=high, p95_ms=p95_ms, computed_p95_ms=computed_ms
    )


def repeated_p95_ms(model: Model, clients: int, hit_ratio: float, hit_s: float) -> tuple[float, float]:
    """P95 of all answers and of the computed ones, in ms, for closed-loop callers of whose texts so many are known."""
    source = random.Random(model.seed)
    count = max(6000, 4 * clients)
    sizes = [0 if source.random() < hit_ratio else source.choice(model.sizes) for _ in range(count)]
    latencies = closed_latencies(clients, sizes, model.cost, most_tokens=model.most_tokens, hit_s=hit_s)[clients:]
    target = model.objective.target
    computed = sorted(s for s in latencies if s != hit_s)
    return nearest_rank(sorted(latencies), target) * 1000, nearest_rank(
        computed, target
    ) * 1000 if computed else math.nan
