"""
One check, once: is the objective met right now? For cron, scripts and people.

Users' requests of the last minutes decide, where they are known and enough for a verdict (see `users`). Else it probes
until a planned look decides (see `plan`), so a healthy server is proven with 60 probes in a second or two, and a dead
one is noticed at once. What is not decided within the wall bound is unproven.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from slo.client import EmbeddingsClient
from slo.clock import Clock, iso
from slo.objective import Judgement, Objective, Verdict, samples_to_meet
from slo.texts import mix
from slo.units import show_duration, show_ms
from slo.watch.plan import make_plan
from slo.watch.sli.probe import Tally, gather
from slo.watch.users import UsersWindow


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a check found. `latency_ms` is the percentile that the objective names; failures count as infinitely slow.

    `outage` holds the reason when the service gave no answer at all.
    """

    judgement: Judgement
    latency_ms: float
    failures: dict[str, int]
    cached: int
    model: str
    url: str
    started_wall_s: float
    took_s: float
    seed: int
    outage: str = ""
    basis: str = "probes"

    @property
    def word(self) -> str:
        """`OK`, `MISSED`, `UNPROVEN` or `OUTAGE`."""
        if self.outage:
            return "OUTAGE"
        return {Verdict.MET: "OK", Verdict.MISSED: "MISSED", Verdict.UNPROVEN: "UNPROVEN"}[self.judgement.verdict]

    @property
    def exit_code(self) -> int:
        """0 met, 1 missed or outage, 3 unproven."""
        return 1 if self.outage else self.judgement.verdict.exit_code

    def __str__(self) -> str:
        """One line for a log or a mail from cron."""
        if self.outage:
            return f"OUTAGE {self.outage}  {self.model}  {self.took_s:.1f} s"
        parts = [f"{self.word} {compared(self.latency_ms, self.judgement.objective)}", self.counts]
        parts.append(f"{self.model}  {self.url}  {self.took_s:.1f} s")
        if self.basis != "probes":
            parts.append(f"[{self.basis}]")
        if self.judgement.advice:
            parts.append(f"({self.judgement.advice})")
        return "  ".join(parts)

    @property
    def counts(self) -> str:
        """`57/60 good`, with the failures by kind where there are any."""
        text = f"{self.judgement.good}/{self.judgement.total} good"
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.failures.items()))
        return f"{text} ({kinds})" if kinds else text

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        judgement = self.judgement
        return {
            "status": self.word.lower(),
            "exit_code": self.exit_code,
            "checked_at": iso(self.started_wall_s),
            "took_s": round(self.took_s, 3),
            "objective": str(judgement.objective),
            "threshold_ms": judgement.objective.threshold_ms,
            "confidence": judgement.objective.confidence,
            "target": judgement.objective.target,
            "latency_ms": self.latency_ms,
            "good": judgement.good,
            "total": judgement.total,
            "failures": self.failures,
            "cached": self.cached,
            "model": self.model,
            "url": self.url,
            "basis": self.basis,
            "seed": self.seed,
            "reason": self.outage or judgement.advice,
        }


def compared(latency_ms: float, objective: Objective) -> str:
    """`P95 12.3 ms ≤ 150 ms`; the sign compares unrounded values."""
    sign = "≤" if latency_ms <= objective.threshold_ms else ">"
    return f"P{objective.target * 100:g} {show_ms(latency_ms)} {sign} {show_ms(objective.threshold_ms)}"


def check_of_users(window: UsersWindow, *, model: str, url: str, started: tuple[float, float], clock: Clock) -> Check:
    """The check that users' requests have decided; `started` are the monotonic and the wall clock at its start."""
    return Check(
        judgement=window.judgement,
        latency_ms=window.latency_ms,
        failures=window.failures,
        cached=0,
        model=model,
        url=url,
        started_wall_s=started[1],
        took_s=clock.monotonic() - started[0],
        seed=0,
        basis=f"{window.basis}, in {show_duration(window.seconds)}",
    )


def check(client: EmbeddingsClient, objective: Objective, *, bound_s: float, clock: Clock) -> Check:
    """Probe the endpoint until the verdict is clear or `bound_s` is over.

    Raises `Unauthorized` when the server rejects the key: then nothing was measured.
    """
    plan, started_s, wall_s = make_plan(objective), clock.monotonic(), clock.wall()
    seed = int(wall_s * 1e6) ^ os.getpid()  # new texts every time: a cache must not answer for the model
    tally, late = gather(
        client,
        mix(seed),
        objective,
        enough=lambda tally: plan.verdict(tally.bad, tally.total) is not None,
        bound_s=bound_s,
        clock=clock,
    )
    decided = None if late else plan.verdict(tally.bad, tally.total)
    verdict = decided or plan.out_of_time(tally.bad, tally.total)
    return Check(
        judgement=_judgement(tally, verdict, late, bound_s),
        latency_ms=tally.latency_ms,
        failures=dict(tally.failures),
        cached=tally.cached,
        model=client.model,
        url=client.url,
        started_wall_s=wall_s,
        took_s=clock.monotonic() - started_s,
        seed=seed,
        outage=_outage(tally, client.url, late, bound_s),
    )


def _judgement(tally: Tally, verdict: Verdict, late: bool, bound_s: float) -> Judgement:
    advice = ""
    if verdict is Verdict.UNPROVEN:
        needed = samples_to_meet(tally.bad, tally.objective)
        advice = f"{tally.bad} bad of {tally.total} decides nothing; about {needed} probes would"
        if late:
            advice = f"stopped after {bound_s:g} s; {advice}"
    return Judgement(verdict=verdict, good=tally.good, total=tally.total, objective=tally.objective, advice=advice)


def _outage(tally: Tally, url: str, late: bool, bound_s: float) -> str:
    if tally.outage and tally.last_error is not None:
        return tally.last_error.message
    return f"{url}: no answer within {bound_s:g} s" if late and tally.total == 0 and not tally.cached else ""
