"""
Where a minute's counts come from, and when probes fill in. Never mixed silently: every row carries its source.

Passive counts come first: they are what users had. Where too few requests came (`needs_probes`), or the source cannot
judge them (`blind`), probes count as well, for a verdict on three requests is none. The server counts our probes apart
from users' requests; an older one does not (`sees_probes`), and then they are counted once, as what it says.

The counts are the server's own, or come by query from a Prometheus that scrapes it: for more servers than one, or a
watcher elsewhere. `increase(…[60s])` extrapolates to the ends of its window, so these are estimates, rounded to whole
requests; their rows carry the source `prometheus`. Every code is in the denominator: failures are bad, not absent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

from slo.clock import Clock
from slo.errors import BadAnswer, RequestError
from slo.watch.model.counts import Minute, matching_edge
from slo.watch.sli.scrape import OWN, REQUESTS, Scrape, parse_exposition, reading_from_json, spread

Fetch = Callable[[str], bytes]
LONGEST_GAP_S = 3600
TRUNCATED = "slo_truncated_total{what=texts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one round brought. `problem` says why passive counts are missing; probes may still be there.

    `truncated` are texts that were longer than the model takes.
    `blind`: there are counts, and no edge at the threshold, so that they tell nothing of latency.
    """

    minutes: tuple[Minute, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    blind: bool = False
    sees_probes: bool = False
    truncated: int = 0

    @property
    def total(self) -> int:
        return sum(minute.total for minute in self.minutes)


class PassiveSource:
    """The extension's counters at `<endpoint>/slo/metrics`."""

    def __init__(
        self,
        fetch: Fetch,
        endpoint: str,
        *,
        model: str,
        clock: Clock,
        interval_s: float,
        thresholds_ms: Sequence[float],
    ) -> None:
        """`thresholds_ms` are those of all latency objectives, the main one first."""
        self._fetch = fetch
        self._url = f"{endpoint.rstrip('/')}/slo/metrics"
        self._model = model
        self._clock = clock
        self._interval_s = int(interval_s)
        self._thresholds_ms = tuple(thresholds_ms)
        self._last: tuple[float, Scrape] | None = None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where the watcher before this one stopped, if it watched the same model at the same address."""
        if state and (state["url"], state["model"]) == (self._url, self._model):
            self._last = state["at_s"], reading_from_json(state["reading"])

    def state(self) -> dict[str, Any]:
        """What `restore` needs; to be kept in the transaction that stores the counts."""
        if self._last is None:
            return {}
        at_s, reading = self._last
        return {"url": self._url, "model": self._model, "at_s": at_s, "reading": reading.to_json()}

    def collect(self, start_s: int) -> Collected:
        """Requests since the last reading, as slices up to the one that starts at `start_s`.

        The first reading ever brings none: nobody knows when those requests were. A server that does not answer, or
        has no such page, is a `problem`, not an error: probes must go on.
        """
        try:
            reading = self._read()
        except RequestError as error:
            return Collected(problem=error.message)
        last, self._last = self._last, (self._clock.wall(), reading)
        if last is None or not reading.edges_s:
            return Collected()
        difference = reading.minus(last[1])
        minute = difference.minute(start_s=start_s, source="passive", length_s=self._interval_s)
        return Collected(
            minutes=tuple(part for part in spread(minute, self._starts(last[0], start_s)) if not part.empty),
            evidence={**difference.evidence(self._thresholds_ms[0]), "cache_hit_ratio": difference.cache_hit_ratio},
            sees_probes=not reading.apart,
            truncated=int(difference.other.get(TRUNCATED, 0)),
            **blindness(self._url, reading, self._thresholds_ms),
        )

    def _read(self) -> Scrape:
        return parse_exposition(self._fetch(self._url).decode("utf-8", "replace"), model=self._model, url=self._url)

    def _starts(self, last_s: float, start_s: int) -> list[int]:
        """Starts of the slices between the last reading and now; a gap beyond an hour counts as an hour."""
        gap_s = min(max(0.0, self._clock.wall() - last_s), LONGEST_GAP_S)
        count = max(1, round(gap_s / self._interval_s))
        return [start_s - self._interval_s * index for index in reversed(range(count))]


def blindness(where: str, reading: Scrape, thresholds_ms: Sequence[float]) -> dict[str, Any]:
    """`blind` and `problem` of counts from histograms that lack an edge at one of these thresholds."""
    missing = [ms for ms in thresholds_ms if matching_edge(reading.edges_s, ms) is None]
    if not missing:
        return {}
    edges = ", ".join(f"{edge * 1000:g}" for edge in reading.edges_s)
    lacks = " and ".join(f"{ms:g}" for ms in missing)
    problem = (
        f"{where}: the server counts latencies at {edges} ms, not at {lacks} ms: until it is launched anew with this "
        "configuration (`make launch`), latency is judged by probes"
    )
    return {"blind": True, "problem": problem}


def needs_probes(passive: int, thin: int, *, interval_s: float, window_s: float) -> bool:
    """Did users send too little in this round to judge by, at `thin` requests per window?

    Of this round alone: a service that hangs answers nobody, and the requests of the minutes before must not keep the
    probes away until they have left the window.
    """
    return passive < thin * interval_s / window_s


def query_url(base: str, *, model: str, seconds: float, at_s: float, metric: str = REQUESTS, selector: str = "") -> str:
    """Address of the instant query for the requests of the `seconds` before `at_s`, by code, class and edge."""
    quoted = model.replace("\\", "\\\\").replace('"', '\\"')
    wanted = ",".join(part for part in (f'model="{quoted}"', selector) if part)
    query = f"sum by (le, code, length_class) (increase({metric}_bucket{{{wanted}}}[{seconds:g}s]))"
    return f"{base.rstrip('/')}/api/v1/query?{urlencode({'query': query, 'time': f'{at_s:.3f}'})}"


def read_increase(fetch: Callable[[str], bytes], url: str) -> Scrape:
    """What the query at `url` brings. Raises a `RequestError` if Prometheus answers anything but a vector."""
    try:
        data: Any = orjson.loads(fetch(url))
        if data["status"] != "success" or data["data"]["resultType"] != "vector":
            raise BadAnswer(f"{url}: {data.get('error', 'not a vector')}", url=url)
        buckets: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
        for row in data["data"]["result"]:
            labels = row["metric"]
            key = (labels.get("code", ""), labels.get("length_class", ""))
            buckets[key][float(labels["le"])] = float(row["value"][1])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadAnswer(f"{url}: not an answer of Prometheus: {error}", url=url) from error
    edges = sorted({edge for row in buckets.values() for edge in row})
    return Scrape(
        edges_s=tuple(edge for edge in edges if edge != float("inf")),
        requests={key: _whole(row, edges) for key, row in buckets.items()},
    )


def _whole(row: dict[float, float], edges: list[float]) -> tuple[int, ...]:
    """Cumulative and whole: rounding each edge alone may not make a later one smaller than an earlier one."""
    counts, so_far = [], 0
    for edge in edges:
        so_far = max(so_far, round(row.get(edge, 0.0)))
        counts.append(so_far)
    return tuple(counts)


class PrometheusSource:
    """Each round's counts by one query."""

    def __init__(
        self,
        fetch: Callable[[str], bytes],
        base: str,
        *,
        model: str,
        clock: Clock,
        interval_s: float,
        thresholds_ms: Sequence[float],
        selector: str = "",
    ) -> None:
        self._fetch = fetch
        self._base = base
        self._model = model
        self._clock = clock
        self._interval_s = interval_s
        self._thresholds_ms = tuple(thresholds_ms)
        self._selector = selector

    def collect(self, start_s: int) -> Collected:
        """The requests of the last interval. A Prometheus that does not answer is a `problem`: probes go on."""
        url = query_url(
            self._base, model=self._model, seconds=self._interval_s, at_s=self._clock.wall(), selector=self._selector
        )
        try:
            reading = read_increase(self._fetch, url)
        except RequestError as error:
            return Collected(problem=error.message)
        if not reading.edges_s:
            return Collected(problem=f"{self._base}: no series for model {self._model!r}")
        minute = reading.minute(start_s=start_s, source="prometheus", length_s=int(self._interval_s))
        return Collected(
            minutes=() if minute.empty else (minute,),
            evidence={"classes": reading.evidence(self._thresholds_ms[0])["classes"]},
            sees_probes=not self._counts_probes_apart(),
            **blindness(self._base, reading, self._thresholds_ms),
        )

    def _counts_probes_apart(self) -> bool:
        """Have the servers behind it a histogram of the toolkit's own requests?"""
        query = urlencode({"query": f"count({OWN}_count)", "time": f"{self._clock.wall():.3f}"})
        try:
            answer = orjson.loads(self._fetch(f"{self._base.rstrip('/')}/api/v1/query?{query}"))
            return bool(answer["data"]["result"])
        except (RequestError, ValueError, KeyError, TypeError):
            return False

    def state(self) -> dict[str, Any]:
        """Nothing to remember: each query stands for itself."""
        return {}
