"""
The queue behind a plan: one replica as a server whose pass over t tokens costs a + b·t.

Two models. **M/D/1** serves one request at a time; its waiting time has a closed form (Crommelin 1932; Erlang):
P(W ≤ x) = (1−ρ) Σₖ₌₀^⌊x/D⌋ (−λ(x−kD))ᵏ/k! · e^{λ(x−kD)}. It is what a server without batching can do.
**Batch service** takes everything that waits, up to a cap of tokens, in one pass. It has no handy formula, so it is
simulated exactly, event by event, with a seed.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slo.bench.schedule import poisson
from slo.stats import nearest_rank


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pass costs: `fixed_s` plus `token_s` per token; `around_s` is per request, outside the queue."""

    fixed_s: float
    token_s: float
    around_s: float = 0.0

    def pass_s(self, tokens: float) -> float:
        """Seconds of one pass over `tokens`."""
        return self.fixed_s + self.token_s * tokens


def md1_wait_cdf(rate: float, service_s: float, wait_s: float) -> float:
    """P(W ≤ `wait_s`) in an M/D/1 queue; 0 when it is overloaded. The terms alternate: for waits up to ~15 services."""
    rho = rate * service_s
    if rho >= 1:
        return 0.0
    if wait_s < 0:
        return 0.0
    terms = []
    for k in range(math.floor(wait_s / service_s + 1e-12) + 1):
        x = rate * (wait_s - k * service_s)
        terms.append((-x) ** k / math.factorial(k) * math.exp(x))
    return min(1.0, max(0.0, (1 - rho) * math.fsum(terms)))


def md1_capacity(service_s: float, threshold_s: float, target: float) -> float:
    """Highest Poisson rate at which `target` of the requests take at most `threshold_s`; 0 if none can."""
    if service_s > threshold_s:
        return 0.0
    return highest(lambda rate: md1_wait_cdf(rate, service_s, threshold_s - service_s) >= target, 1 / service_s)


def batch_latencies(due_s: Sequence[float], tokens: Sequence[int], cost: Cost, *, most_tokens: int) -> list[float]:
    """Latency of each request in an open loop through one batch server, first come, first served."""
    latencies: list[float] = []
    free_s, index, count = 0.0, 0, len(due_s)
    while index < count:
        start_s = max(free_s, due_s[index])
        end, load = index, 0
        while end < count and due_s[end] <= start_s and (end == index or load + tokens[end] <= most_tokens):
            load += tokens[end]
            end += 1
        free_s = start_s + cost.pass_s(load)
        latencies.extend(free_s - due_s[i] + cost.around_s for i in range(index, end))
        index = end
    return latencies


def closed_latencies(
    clients: int, tokens: Sequence[int], cost: Cost, *, most_tokens: int, hit_s: float = 0.0
) -> list[float]:
    """Latencies of `clients` callers who ask again as soon as they are answered, one per entry of `tokens`.

    An entry of 0 is a text from the cache: it is answered after `hit_s`, outside the queue.
    """
    coming = [(i * 1e-6, i) for i in range(clients)]  # when each caller's next request reaches the queue
    sizes = iter(tokens)
    waiting: deque[tuple[float, int, int]] = deque()
    latencies: list[float] = []
    now = 0.0
    while True:
        if not waiting:
            now = max(now, coming[0][0])
        while coming and coming[0][0] <= now:  # a cached answer may bring its caller back before that
            arrived_s, caller = heapq.heappop(coming)
            size = next(sizes, None)
            if size is None:
                return latencies
            if size == 0:
                latencies.append(hit_s)
                heapq.heappush(coming, (arrived_s + hit_s, caller))
                continue
            waiting.append((arrived_s, caller, size))
        if not waiting:
            continue
        batch, load = [waiting.popleft()], 0
        load = batch[0][2]
        while waiting and load + waiting[0][2] <= most_tokens:
            batch.append(waiting.popleft())
            load += batch[-1][2]
        now += cost.pass_s(load)
        for arrived_s, caller, _ in batch:
            latencies.append(now - arrived_s + cost.around_s)
            heapq.heappush(coming, (now + cost.around_s, caller))


def batch_p95(rate: float, sizes: Sequence[int], cost: Cost, *, most_tokens: int, target: float, seed: int) -> float:
    """The `target` percentile of latency in seconds at a Poisson `rate`, over 12 000 simulated requests."""
    requests = 12_000
    due = poisson(rate, requests / rate, seed)
    source = random.Random(f"{seed}/sizes")
    tokens = source.choices(sizes, k=len(due))
    return nearest_rank(sorted(batch_latencies(due, tokens, cost, most_tokens=most_tokens)), target)


def batch_capacity(
    sizes: Sequence[int], cost: Cost, *, most_tokens: int, threshold_s: float, target: float, seed: int
) -> float:
    """Highest Poisson rate whose `target` percentile stays within `threshold_s`, to 1 %."""
    roof = 1 / (cost.token_s * sum(sizes) / len(sizes)) if cost.token_s else most_tokens / cost.fixed_s
    return highest(
        lambda rate: batch_p95(rate, sizes, cost, most_tokens=most_tokens, target=target, seed=seed) <= threshold_s,
        roof,
    )


def highest(holds: Callable[[float], bool], roof: float) -> float:
    """Largest rate below `roof`, to 0.5 %, at which `holds`; 0 if it does not even hold near zero."""
    low, high = 0.0, roof
    if not holds(roof / 1000):
        return 0.0
    while high - low > 0.005 * high:
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
