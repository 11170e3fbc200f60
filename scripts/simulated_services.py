"""
Services whose true share of late requests is known, for checks of the statistics: 150 ms is the threshold of all.

Each gives latencies in seconds as an array of `runs` × `n`, every row one stationary run in order of due time, and the
rate at which requests come. Queues are computed by Lindley's recursion, as running sums less their running minimum.

* `mm1`: exponential service, 100/s. P(T > t) = exp(−(μ−λ)t).
* `md1`: constant service of 15 ms. P(W ≤ t) by Crommelin's formula.
* `batch`: the server takes all that waits, 20 ms and 4 ms for each.
* `stalls(s)`: a server of 5 ms stands still for `s` seconds, at exponential intervals; a network adds 60 to 110 ms.
* `pauses`: the same with 0.25 s at fixed intervals, as of a garbage collector.
* `drifting`: `mm1` whose load rises by 30 % of its mean from the first to the last request.

A stall of `s` makes requests late for b = (s − E[slack]) / (1 − ρ) seconds: while it lasts, and while what has queued
up is worked off. So the share is b / (s + time between).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

THRESHOLD_S = 0.150
MU = 100.0
MD1_S = 0.015
BATCH_BASE_S, BATCH_EACH_S = 0.020, 0.004
STALLED_RATE, STALLED_SERVICE_S = 20.0, 0.0125
NETWORK_S = (0.060, 0.110)
PAUSE_S = 0.25
DRIFT = 0.3
STALLS_S = (0.1, 0.3, 1.0, 3.0, 10.0)

# What no formula gives, found by simulating 20 million requests each (`simulate_verdicts.py --calibrate`):
# the share of late requests of the batch server by rate; how much longer than the formula says requests are late
# because of a stall; and, as a queue follows a rising load with delay, what of the expected late ones there are in n.
BATCH_SHARES = {
    140.0: 0.0038,
    150.0: 0.01305,
    158.0: 0.03082,
    161.0: 0.04114,
    163.0: 0.04978,
    165.0: 0.06011,
    168.0: 0.07806,
}
LATE_FACTORS = {0.1: 1.268, 0.3: 1.059, 1.0: 1.017, 3.0: 1.010, 10.0: 1.012, PAUSE_S: 1.072}
DRIFT_FACTORS = {200: 0.511, 500: 0.688, 1000: 0.784, 2000: 0.838, 5000: 0.891, 10_000: 0.914, 20_000: 0.930}


@dataclass(frozen=True, kw_only=True)
class Service:
    """`draw(share, runs, n, source)` gives latencies with this true share of late ones; `spell_s` is how long
    its requests are late at a stretch because of a stall."""

    name: str
    draw: Callable[[float, int, int, np.random.Generator], Floats]
    rate: Callable[[float], float]
    spell_s: float = 0.0


def services() -> list[Service]:
    """All of them."""
    return [
        Service(name="M/M/1", draw=_mm1, rate=mm1_rate),
        Service(name="M/D/1", draw=_md1, rate=md1_rate),
        Service(name="batch service", draw=_batch, rate=batch_rate),
        *(
            Service(
                name=f"stalls of {s:g} s",
                draw=lambda share, runs, n, source, s=s: _stalled(share, runs, n, source, s, regular=False),  # type: ignore[misc]
                rate=lambda _share: STALLED_RATE,
                spell_s=s / (1 - STALLED_RATE * STALLED_SERVICE_S),
            )
            for s in STALLS_S
        ),
        Service(
            name="periodic pauses",
            draw=lambda share, runs, n, source: _stalled(share, runs, n, source, PAUSE_S, regular=True),
            rate=lambda _share: STALLED_RATE,
            spell_s=PAUSE_S / (1 - STALLED_RATE * STALLED_SERVICE_S),
        ),
        Service(name="drifting load", draw=_drifting, rate=drifting_rate),
    ]


def mm1_rate(share: float) -> float:
    """The rate at which an M/M/1 queue has this share of late requests."""
    return MU + math.log(share) / THRESHOLD_S


def mm1_share(rate: float) -> float:
    """The share of late requests of an M/M/1 queue."""
    return math.exp(-(MU - rate) * THRESHOLD_S)


def md1_share(rate: float, service_s: float = MD1_S) -> float:
    """The share of late requests of an M/D/1 queue, by Crommelin's formula."""
    wait_s, load = THRESHOLD_S - service_s, rate * service_s
    terms = (
        (rate * (k * service_s - wait_s)) ** k / math.factorial(k) * math.exp(-rate * (k * service_s - wait_s))
        for k in range(math.floor(wait_s / service_s + 1e-9) + 1)
    )
    return 1 - (1 - load) * sum(terms)


def md1_rate(share: float) -> float:
    """The rate at which an M/D/1 queue has this share of late requests."""
    return bisect(md1_share, share, 1.0, 0.9999 / MD1_S)


def bisect(function: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where the rising `function` reaches `wanted`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < wanted else (low, middle)
    return (low + high) / 2


def queue(gaps: Floats, service: Floats | float) -> Floats:
    """Times from arrival to departure of a first-come queue that begins empty, given gaps before each arrival."""
    steps = np.empty_like(gaps)
    steps[:, 0] = 0.0
    served = service if isinstance(service, float) else service[:, :-1]
    steps[:, 1:] = served - gaps[:, 1:]
    sums = np.cumsum(steps, axis=1)
    waits: Floats = sums - np.minimum.accumulate(sums, axis=1)
    return waits + service


def _mm1(share: float, runs: int, n: int, source: np.random.Generator) -> Floats:
    rate = mm1_rate(share)
    gaps = source.exponential(1 / rate, (runs, n))
    service = source.exponential(1 / MU, (runs, n))
    # The wait at the start is that of a queue in equilibrium: 0 or exponential.
    first = source.exponential(1 / (MU - rate), runs) * (source.random(runs) < rate / MU)
    gaps[:, 0] = 0.0
    steps = np.concatenate([first[:, None], service[:, :-1] - gaps[:, 1:]], axis=1)
    sums = np.cumsum(steps, axis=1)
    waits: Floats = sums - np.minimum(np.minimum.accumulate(sums, axis=1), 0.0)
    return waits + service


def _md1(share: float, runs: int, n: int, source: np.random.Generator) -> Floats:
    before = 4000
    return queue(source.exponential(1 / md1_rate(share), (runs, before + n)), MD1_S)[:, before:]


def batch_rate(share: float) -> float:
    """The rate at which the batch server has this share of late requests."""
    known = sorted((math.log(found), rate) for rate, found in BATCH_SHARES.items())
    return float(np.interp(math.log(share), [found for found, _ in known], [rate for _, rate in known]))


def batch_latencies(rate: float, runs: int, n: int, source: np.random.Generator) -> Floats:
    """Times from arrival to the end of the batch."""
    before = 2000
    due = np.cumsum(source.exponential(1 / rate, (runs, before + n)), axis=1)
    found = np.empty_like(due)
    for row, latencies in zip(due, found, strict=True):
        arrivals, free, index = row.tolist(), 0.0, 0
        ends: list[tuple[int, float]] = []
        while index < len(arrivals):
            start = max(free, arrivals[index])
            last = bisect_right(arrivals, start, index)
            free = start + BATCH_BASE_S + BATCH_EACH_S * (last - index)
            ends.append((last - index, free))
            index = last
        latencies[:] = np.repeat([end for _, end in ends], [count for count, _ in ends]) - row
    return found[:, before:]


def _batch(share: float, runs: int, n: int, source: np.random.Generator) -> Floats:
    return batch_latencies(batch_rate(share), runs, n, source)


def between_s(share: float, stall_s: float) -> float:
    """Mean time from the end of a stall to the next."""
    load = STALLED_RATE * STALLED_SERVICE_S
    own = STALLED_SERVICE_S * (1 + load / 2 / (1 - load))  # service and usual wait
    low, high = (THRESHOLD_S - own - network for network in reversed(NETWORK_S))
    # E[(s − slack)⁺] for a slack that is uniform between low and high
    top = min(high, stall_s)
    late_s = (top - low) / (high - low) * (stall_s - (low + top) / 2) / (1 - load)
    return LATE_FACTORS[stall_s] * late_s / share - stall_s


def _stalled(share: float, runs: int, n: int, source: np.random.Generator, stall_s: float, *, regular: bool) -> Floats:
    off = between_s(share, stall_s)
    before = int(STALLED_RATE * (3 * stall_s + 2))
    due = np.cumsum(source.exponential(1 / STALLED_RATE, (runs, before + n)), axis=1)
    count = int(due[:, -1].max() / (stall_s + off) * 1.3) + 12
    gaps = np.full((runs, count), off) if regular else source.exponential(off, (runs, count))
    cycle = off + stall_s
    phase = source.random(runs) * cycle
    # In equilibrium a run begins in a stall with probability s / cycle; else the rest of an interval lies before it.
    in_stall = phase < stall_s
    gaps[:, 0] = np.where(in_stall, -phase, phase - stall_s if regular else gaps[:, 0])
    starts = np.cumsum(gaps + stall_s, axis=1) - stall_s
    # Time during which the server works, as a function of time: flat while it stands still.
    edges = np.stack([starts, starts + stall_s], axis=2).reshape(runs, -1)
    worked = np.repeat(np.cumsum(gaps, axis=1), 2, axis=1)
    found = np.empty_like(due)
    for row in range(runs):
        x = np.concatenate([[min(edges[row, 0], 0.0) - 1.0], edges[row], [edges[row, -1] + 1e6]])
        y = np.concatenate([[worked[row, 0] - (edges[row, 0] - x[0])], worked[row], [worked[row, -1] + 1e6]])
        arrived = np.interp(due[row], x, y)
        left = queue(np.diff(arrived, prepend=arrived[0])[None, :], STALLED_SERVICE_S)[0] + arrived
        # A departure falls on the later end of a flat piece only if work was left at its start.
        found[row] = np.interp(left, y + np.arange(len(y)) * 1e-12, x) - due[row]
    return found[:, before:] + source.uniform(*NETWORK_S, (runs, n))


def drifting_rate(share: float) -> float:
    """The mean rate at which the rising load has this share of late requests, over a long run."""

    def mean(rate: float) -> float:
        parts = np.linspace(1 - DRIFT / 2, 1 + DRIFT / 2, 401)
        shares = np.exp(-(MU - rate * parts) * THRESHOLD_S)
        return float(np.average(shares, weights=parts))

    return bisect(mean, share, 1.0, MU / (1 + DRIFT / 2) * 0.9999)


def _drifting(share: float, runs: int, n: int, source: np.random.Generator) -> Floats:
    known = sorted(DRIFT_FACTORS.items())
    factor = np.interp(math.log(n), [math.log(size) for size, _ in known], [value for _, value in known])
    return _rising(drifting_rate(share / float(factor)), runs, n, source)


def _rising(rate: float, runs: int, n: int, source: np.random.Generator) -> Floats:
    before = 2000
    rates = rate * np.concatenate([np.full(before, 1 - DRIFT / 2), np.linspace(1 - DRIFT / 2, 1 + DRIFT / 2, n)])
    gaps = source.exponential(1.0, (runs, before + n)) / rates
    return queue(gaps, source.exponential(1 / MU, (runs, before + n)))[:, before:]


def calibrate(source: np.random.Generator, requests: int = 20_000_000) -> None:
    """Print the three tables above."""
    runs, n = requests // 20_000, 20_000

    def late(found: Floats) -> float:
        return float((found > THRESHOLD_S).mean())

    share = 0.05
    for stall_s, factor in LATE_FACTORS.items():
        found = late(_stalled(share, runs, n, source, stall_s, regular=True)) / share
        print(stall_s, round(factor * found, 4))
    rates = (140.0, 150.0, 158.0, 161.0, 163.0, 165.0, 168.0)
    print({rate: round(late(batch_latencies(rate, runs, n, source)), 5) for rate in rates})
    for size in (200, 500, 1000, 2000, 5000, 10_000, 20_000):
        rate = drifting_rate(0.05)
        print(size, round(late(_rising(rate, requests // size, size, source)) / 0.05, 4))
