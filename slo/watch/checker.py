"""
One check, once: is the objective met right now? For cron, scripts and people.

Users' requests of the last minutes decide, where somebody has counted them (the server itself, else the history of a
watch that is under way) and they are enough for a verdict: counting costs the server nothing, and no probe is as good
as what users had. Else it probes until a planned look decides (see `group_sequential`), so a healthy server is proven
with 60 probes in a second or two, and a dead one is noticed at once. What is not decided within the wall bound is
unproven.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from slo.client import EmbeddingsClient
from slo.clock import Clock, iso
from slo.errors import RequestError, StoreError, Unauthorized
from slo.objective import Judgement, Objective, Verdict, judge, samples_to_meet
from slo.stats import rank
from slo.texts import mix
from slo.units import show_duration, show_ms
from slo.watch.group_sequential import make_plan
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Source
from slo.watch.model.latency import percentile
from slo.watch.model.objectives import latency_event
from slo.watch.sli.probe import ProbeTally, gather

COUNTED: tuple[Source, ...] = ("passive", "prometheus")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersWindow:
    """Users' requests of the last `seconds`. `latency_ms` is the percentile that the objective names."""

    judgement: Judgement
    latency_ms: float
    seconds: int
    failures: dict[str, int]
    basis: str

    @property
    def decided(self) -> bool:
        """Is that enough for a verdict?"""
        return self.judgement.verdict is not Verdict.UNPROVEN


def from_server(
    fetch: Callable[[str], bytes], endpoint: str, model: str, objective: Objective, seconds: int
) -> UsersWindow | None:
    """What the extension has counted; None where there is none, and where it does not answer a real request now.

    Raises `Unauthorized` for a rejected key.
    """
    base = endpoint.rstrip("/").removesuffix("/embeddings").removesuffix("/v1")
    query = urlencode({"seconds": seconds, "threshold_ms": f"{objective.threshold_ms:.12g}", "model": model})
    try:
        fetch(f"{base}/slo/readyz")
        said: Any = orjson.loads(fetch(f"{base}/slo/api/window?{query}"))
        if said.get("model") != model:  # an older server, which counts all its models together
            return None
        good, total, codes = int(said["good"]), int(said["total"]), dict(said["codes"])
        tenths = f"p{objective.target * 100:g}_ms"
        value = said.get(tenths)
    except Unauthorized:
        raise
    except (RequestError, ValueError, KeyError, TypeError, AttributeError):
        return None
    failures = {name: int(codes[code]) for code, name in (("429", "refused"), ("5xx", "failed"), ("timeout", "timeout"))
                if codes.get(code)}  # fmt: skip
    answered = int(codes.get("2xx", 0))
    latency_ms = math.inf if total and answered < rank(total, objective.target) else float(value or math.nan)
    return _window(
        Counts(good, total), latency_ms, objective, seconds, failures, "users' requests, as the server counts"
    )


def from_history(store: Store, objective: Objective, seconds: int, now_s: float, interval_s: int) -> UsersWindow | None:
    """What a watch that is under way has counted; None without one, or where it knows of probes alone."""
    try:
        last_s = store.last_minute_s()
        if last_s is None or not 0 <= now_s - last_s <= 3 * interval_s:
            return None
        end_s = last_s + interval_s
        found = store.counts_by_source(latency_event(objective.threshold_ms), end_s - seconds, end_s)
        counts = sum((found[source] for source in COUNTED if source in found), Counts())
        minutes = list(store.minutes(end_s - seconds, end_s, sources=COUNTED))
    except StoreError:
        return None
    if not minutes:
        return None
    histogram, failures = minutes[-1].histogram, dict[str, int]()
    for minute in minutes:
        for name, number in minute.outcomes.items():
            failures[name] = failures.get(name, 0) + number
    for minute in minutes[:-1]:
        if minute.histogram.edges_s == histogram.edges_s:
            histogram.add(minute.histogram)
    value_ms = percentile(histogram, sum(failures.values()), objective.target).value_ms
    return _window(counts, value_ms, objective, seconds, failures, "users' requests, as `slo watch` counts")


def _window(
    counts: Counts, latency_ms: float, objective: Objective, seconds: int, failures: dict[str, int], basis: str
) -> UsersWindow:
    """The counts are exact and the percentile is not: they decide on which side of the threshold it lies."""
    met = counts.bad <= objective.budget * counts.total + 1e-9
    limit = objective.threshold_ms
    return UsersWindow(
        judgement=judge(counts.good, counts.total, objective),
        latency_ms=min(latency_ms, limit) if met else max(latency_ms, math.nextafter(limit, math.inf)),
        seconds=seconds,
        failures=failures,
        basis=basis,
    )


@dataclass(frozen=True, kw_only=True)
class CheckResult:
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


def check_of_users(
    window: UsersWindow, *, model: str, url: str, started: tuple[float, float], clock: Clock
) -> CheckResult:
    """The check that users' requests have decided; `started` are the monotonic and the wall clock at its start."""
    return CheckResult(
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


def check(client: EmbeddingsClient, objective: Objective, *, bound_s: float, clock: Clock) -> CheckResult:
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
    return CheckResult(
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


def _judgement(tally: ProbeTally, verdict: Verdict, late: bool, bound_s: float) -> Judgement:
    advice = ""
    if verdict is Verdict.UNPROVEN:
        needed = samples_to_meet(tally.bad, tally.objective)
        advice = f"{tally.bad} bad of {tally.total} decides nothing; about {needed} probes would"
        if late:
            advice = f"stopped after {bound_s:g} s; {advice}"
    return Judgement(verdict=verdict, good=tally.good, total=tally.total, objective=tally.objective, advice=advice)


def _outage(tally: ProbeTally, url: str, late: bool, bound_s: float) -> str:
    if tally.outage and tally.last_error is not None:
        return tally.last_error.message
    return f"{url}: no answer within {bound_s:g} s" if late and tally.total == 0 and not tally.cached else ""
