"""
What a load proved. The binomial test counts independent requests; requests in one queue are not.

When one is late its neighbours are too, so n requests weigh as n_eff = n / (1 + 2Σρₖ), where ρₖ is the
autocorrelation of "bad" at distance k, summed while it exceeds chance (2/√n). The counts are scaled to n_eff,
rounded against the verdict in question, and judged as in `slo.objective`. Independent samples lose nothing.

A run is void (exit code 3, no verdict) when the generator failed its self-check, or when the queue kept growing
without the objective being missed beyond doubt. Wrong answers mean that it is missed, however fast they came.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slo.bench.collect import BAD, GOOD
from slo.objective import Judgement, Objective, Verdict, judge
from slo.sentences import say


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


def bad_sequence(flags: Sequence[int]) -> list[int]:
    """0 for good, 1 for bad, in order of due time; cached and unfinished requests are left out."""
    return [flag - GOOD for flag in flags if flag in (GOOD, BAD)]


def effective_size(bad: Sequence[int]) -> float:
    """n / (1 + 2Σρₖ) of a 0/1 sequence; n when nothing varies. Never above n."""
    n = len(bad)
    values = np.asarray(bad, dtype=np.float64)
    values -= values.mean() if n else 0.0
    power = float(values @ values)
    if n < 3 or power == 0.0:
        return float(n)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(values, size)
    rho = np.fft.irfft(spectrum * spectrum.conj(), size)[1 : n // 4 + 1] / power
    above = np.flatnonzero(rho < 2 / math.sqrt(n))
    total = float(rho[: above[0] if above.size else rho.size].sum())
    return n / (1 + 2 * total)


def judge_dependent(good: int, total: int, effective: float, objective: Objective) -> Judgement:
    """The verdict on `good` of `total` requests that weigh as `effective` independent ones."""
    weight = min(1.0, effective / total) if total else 1.0
    if weight == 1.0:
        return judge(good, total, objective)
    bad = total - good
    size = math.floor(total * weight)
    scaled_bad = min(size, math.ceil(bad * weight - 1e-9))
    verdict = Verdict.UNPROVEN
    if judge(size - scaled_bad, size, objective).verdict is Verdict.MET:
        verdict = Verdict.MET
    else:
        size = math.ceil(total * weight)
        scaled_bad = min(size, math.floor(bad * weight + 1e-9))
        if judge(size - scaled_bad, size, objective).verdict is Verdict.MISSED:
            verdict = Verdict.MISSED
    advice = ""
    if verdict is Verdict.UNPROVEN:
        advice = say("clusters", total=total, effective=f"{effective:.0f}")
    return Judgement(verdict=verdict, good=good, total=total, objective=objective, advice=advice)


def conclude(
    bad: Sequence[int],
    objective: Objective,
    *,
    faults: Sequence[str] = (),
    drifting: str | None = None,
    wrong: int = 0,
    compared: int = 0,
) -> Conclusion:
    """The verdict on requests in order of due time.

    `faults` are those of the generator, `drifting` the reason if the queue kept growing, `wrong` of `compared`
    answers differed from their reference.
    """
    total = len(bad)
    effective = effective_size(bad)
    judgement = judge_dependent(total - sum(bad), total, effective, objective)
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
