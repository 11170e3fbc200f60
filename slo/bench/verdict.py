"""
What a load proved. The binomial test counts independent requests; requests in one queue are not.

So n requests weigh as n_eff = n / D independent ones (see `dependence`), and the test is done on n_eff and
bad · n_eff / n, by the incomplete beta function, which knows counts that are not whole. Independent samples lose
nothing.

Nobody sees what did not happen: a service that stands still for a second now and then, and is late for 5 % of all
requests because of it, shows nothing of that to more than one in twenty runs of less than 59 seconds (59 clean seconds
prove what 59 clean requests do). So "met" takes a least duration, `Objective.least_s`; until then it is unproven.

A run is void (exit code 3, no verdict) when the generator failed its self-check, or when the queue kept growing
without the objective being missed beyond doubt. Wrong answers mean that it is missed, however fast they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slo.bench.dependence import cautious_size
from slo.objective import Judgement, Objective, Verdict, judge
from slo.sentences import say
from slo.stats import binomial_cdf_between
from slo.units import show_duration


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
