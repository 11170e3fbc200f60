"""
What a load proved. The binomial test counts independent requests; requests in one queue are not.

So n requests weigh as n_eff = n / D independent ones (see `cautious_size`), and the test is done on n_eff and
bad · n_eff / n, by the incomplete beta function, which knows counts that are not whole. Independent samples lose
nothing.

Nobody sees what did not happen: a service that stands still for a second now and then, and is late for 5 % of all
requests because of it, shows nothing of that to more than one in twenty runs of less than 59 seconds (59 clean seconds
prove what 59 clean requests do). So "met" takes a least duration, `Objective.least_s`; until then it is unproven.

A run is void (exit code 3, no verdict) when the generator failed its self-check, or when the queue kept growing
without the objective being missed beyond doubt. Wrong answers mean that it is missed, however fast they came.

**Dependent requests.** When one request in a queue is late its neighbours are too, so the number of late ones scatters
D times as much as among independent requests, D = 1 + 2Σρₖ, ρₖ being the autocorrelation at distance k, summed while
it exceeds chance (2/√n). A sequence weighs as n / D independent ones.

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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slo.objective import Judgement, Objective, Verdict, judge
from slo.sentences import say
from slo.stats import binomial_cdf_between
from slo.units import show_duration

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


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The verdict with its judgement, the weight of its samples, and why it is void if it is."""

    verdict: Verdict
    judgement: Judgement
    effective: float
    void: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def weight(self) -> float:
        """Independent requests that one of these weighs as."""
        return min(1.0, self.effective / self.judgement.total) if self.judgement.total else 1.0

    def __str__(self) -> str:
        if self.void:
            return "void: " + "; ".join(self.void)
        return str(replace(self.judgement, verdict=self.verdict))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict.value,
            "good": self.judgement.good,
            "total": self.judgement.total,
            "effective": round(self.effective, 1),
            "advice": self.judgement.advice,
            "void": list(self.void),
            "remarks": list(self.remarks),
        }


def judge_dependent(good: int, total: int, effective: float, objective: Objective) -> Judgement:
    """The verdict on `good` of `total` requests that weigh as `effective` independent ones."""
    if not total or effective >= total:
        return judge(good, total, objective)
    bad, size, alpha = (total - good) * effective / total, effective, 1 - objective.confidence + 1e-12
    verdict, advice = Verdict.UNPROVEN, ""
    if binomial_cdf_between(bad, size, objective.budget) <= alpha:
        verdict = Verdict.MET
    elif 1 - binomial_cdf_between(bad - 1, size, objective.budget) <= alpha:
        verdict = Verdict.MISSED
    else:
        advice = say("clusters", total=total, effective=f"{effective:.0f}")
    return Judgement(verdict=verdict, good=good, total=total, objective=objective, advice=advice)


def lasting(judgement: Judgement, seconds: float) -> Judgement:
    """The same, but "met" only if it was measured for as long as the objective's longest stall asks for."""
    objective = judgement.objective
    if judgement.verdict is not Verdict.MET or seconds >= objective.least_s:
        return judgement
    advice = say(
        "short",
        seconds=show_duration(seconds),
        stall=show_duration(objective.longest_stall_s),
        least=show_duration(objective.least_s),
    )
    return replace(judgement, verdict=Verdict.UNPROVEN, advice=advice)


def both(sent: Judgement, on_pace: Judgement) -> Judgement:
    """`sent` with the verdict of both: missed if either is, met if both are; unproven with the reason of which is."""
    verdicts = {sent.verdict, on_pace.verdict}
    if Verdict.MISSED in verdicts:
        return replace(sent, verdict=Verdict.MISSED, advice="")
    if Verdict.UNPROVEN in verdicts:
        return replace(sent, verdict=Verdict.UNPROVEN, advice=sent.advice or on_pace.advice)
    return sent


def conclude(
    bad: Sequence[int],
    objective: Objective,
    *,
    latencies_ms: Sequence[float],
    seconds: float,
    faults: Sequence[str] = (),
    drifting: str | None = None,
    wrong: int = 0,
    compared: int = 0,
) -> Conclusion:
    """The verdict on requests in order of due time, with their latencies (infinite for failures), due within `seconds`.

    `faults` are those of the generator, `drifting` the reason if the queue kept growing, `wrong` of `compared`
    answers differed from their reference.
    """
    total = len(bad)
    effective = cautious_size(bad, latencies_ms)
    judgement = lasting(judge_dependent(total - sum(bad), total, effective, objective), seconds)
    verdict, void = judgement.verdict, list(faults)
    remarks: list[str] = []
    if drifting is not None:
        (remarks if verdict is Verdict.MISSED else void).append(drifting)
    if wrong:
        verdict = Verdict.MISSED
        remarks.append(say("wrong", wrong=wrong, compared=compared))
    if void:
        verdict = Verdict.UNPROVEN
    return Conclusion(
        verdict=verdict, judgement=judgement, effective=effective, void=tuple(void), remarks=tuple(remarks)
    )
