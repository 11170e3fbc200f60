"""
How many closed-loop callers a machine holds, and what more of them need. Computed from the model of `plan`.

*Unique texts*: the largest number of callers per replica whose P95 stays within the threshold, times the replicas.
*More cores*: replicas in proportion, each with as many cores as one has here, callers dealt out evenly.
*Repeated texts*: an answer from the cache comes after `hit_s` and bypasses the queue, so callers spend some of their
time outside it. The share of hits from which on the P95 of all answers is within the threshold is found by bisection;
the P95 of the computed answers alone is given beside it, since hits hide them.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from typing import Any

from slo.bench.plan import Model, callers_held
from slo.bench.queueing import closed_latencies
from slo.stats import nearest_rank

MOST_CALLERS = 4096
PRECISION = 0.005  # of the share of hits


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
