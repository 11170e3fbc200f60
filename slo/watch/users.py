"""
What users had in the last minutes, where somebody has counted it: the server itself, else the history of a watch that
is under way. Counting costs the server nothing, and no probe is as good as what users had.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import orjson

from slo.errors import RequestError, StoreError, Unauthorized
from slo.objective import Judgement, Objective, Verdict, judge
from slo.stats import rank
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Source
from slo.watch.model.latency import percentile
from slo.watch.model.objectives import latency_event

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
