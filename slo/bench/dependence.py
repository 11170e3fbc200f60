"""
How many independent requests a sequence of dependent ones weighs as: n / D.

When one request in a queue is late its neighbours are too, so the number of late ones scatters D times as much as
among independent requests, D = 1 + 2Σρₖ, ρₖ being the autocorrelation at distance k, summed while it exceeds chance
(2/√n).

`effective_size` takes ρ of the flag "bad". It is what was there, and enough for a weight in a fit. It is too large for
a proof of "met": a lucky run has few bad requests, and those look independent. `cautious_size` therefore also takes
ρ of the *ranks* of all latencies, which show how long the queue remembers whether or not the threshold was reached,
with their surplus D − 1 taken 2.2 times (and that of the flag 1.1 times): at the threshold a queue remembers longer
than at its median, and a sum over a few clusters comes out too small. These factors are about the least with which a
false "met" and a false "missed" stay below 5 % over the services of `scripts/simulate_verdicts.py`; independent
requests lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RANK_FACTOR, FLAG_FACTOR = 2.2, 1.1

Floats = NDArray[np.float64]
Flags = NDArray[np.uint8]


def effective_size(bad: Sequence[int]) -> float:
    """n / D of a 0/1 sequence; n when nothing varies. Never above n."""
    return len(bad) / variance_factor(np.asarray(bad, dtype=np.float64))


def cautious_size(bad: Sequence[int] | Flags, latencies_ms: Sequence[float] | Floats) -> float:
    """What `bad` weighs as in a proof. `latencies_ms` belong to the same requests; infinite for failures."""
    if len(bad) != len(latencies_ms):
        raise ValueError(f"{len(bad)} flags for {len(latencies_ms)} latencies")
    flagged = variance_factor(np.asarray(bad, dtype=np.float64)) - 1
    ranked = variance_factor(ranks(np.asarray(latencies_ms, dtype=np.float64))) - 1
    return len(bad) / (1 + max(FLAG_FACTOR * flagged, RANK_FACTOR * ranked))


def variance_factor(values: Floats) -> float:
    """D of a sequence, at least 1."""
    n = len(values)
    if n < 3:
        return 1.0
    values = values - values.mean()
    power = float(values @ values)
    if power <= 1e-12 * n:
        return 1.0
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(values, size)
    rho = np.fft.irfft(spectrum * spectrum.conj(), size)[1 : n // 4 + 1] / power
    below = np.flatnonzero(rho < 2 / math.sqrt(n))
    return 1 + 2 * float(rho[: below[0] if below.size else rho.size].sum())


def ranks(values: Floats) -> Floats:
    """Mean ranks, those of equal values being equal."""
    ascending = np.sort(values)
    first = np.searchsorted(ascending, values, side="left")
    last = np.searchsorted(ascending, values, side="right")
    found: Floats = (first + last) / 2.0
    return found
