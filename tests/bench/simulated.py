"""Queues whose answers are known, for tests of the statistics."""

from __future__ import annotations

import math
import random

from slo.bench.schedule import poisson

THRESHOLD_S = 0.150
SERVICE_S = 0.015  # of the M/D/1 queue
MU = 100.0  # of the M/M/1 queue
MM1_CAPACITY = MU - math.log(20) / THRESHOLD_S  # P(T > t) = exp(−(μ−λ)t), solved for 5 % at the threshold


def mm1(rate: float, requests: int, seed: int) -> list[float]:
    """Latencies in seconds of an M/M/1 queue from empty."""
    source, free, found = random.Random(seed), 0.0, []
    for due in poisson(rate, requests / rate, seed):
        free = max(due, free) + source.expovariate(MU)
        found.append(free - due)
    return found


def md1(rate: float, requests: int, seed: int, service_s: float = SERVICE_S) -> list[float]:
    """Latencies in seconds of an M/D/1 queue from empty."""
    free, found = 0.0, []
    for due in poisson(rate, requests / rate, seed):
        free = max(due, free) + service_s
        found.append(free - due)
    return found


def bad(latencies: list[float]) -> list[int]:
    """1 where the objective's threshold is exceeded."""
    return [int(latency > THRESHOLD_S) for latency in latencies]
