"""
Counts by query from a Prometheus that scrapes the server: for more servers than one, or a watcher elsewhere.

`increase(…[60s])` extrapolates to the ends of its window, so these counts are estimates, rounded to whole requests;
their rows carry the source `prometheus`. Every code is in the denominator: failures are bad, not absent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

import orjson

from slo.clock import Clock
from slo.errors import BadAnswer, RequestError
from slo.watch.sli.exposition import OWN, REQUESTS, Reading
from slo.watch.sli.sources import Harvest, blindness


def query_url(base: str, *, model: str, seconds: float, at_s: float, metric: str = REQUESTS, selector: str = "") -> str:
    """Address of the instant query for the requests of the `seconds` before `at_s`, by code, class and edge."""
    quoted = model.replace("\\", "\\\\").replace('"', '\\"')
    wanted = ",".join(part for part in (f'model="{quoted}"', selector) if part)
    query = f"sum by (le, code, length_class) (increase({metric}_bucket{{{wanted}}}[{seconds:g}s]))"
    return f"{base.rstrip('/')}/api/v1/query?{urlencode({'query': query, 'time': f'{at_s:.3f}'})}"


def read_increase(fetch: Callable[[str], bytes], url: str) -> Reading:
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
    return Reading(
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

    def collect(self, start_s: int) -> Harvest:
        """The requests of the last interval. A Prometheus that does not answer is a `problem`: probes go on."""
        url = query_url(
            self._base, model=self._model, seconds=self._interval_s, at_s=self._clock.wall(), selector=self._selector
        )
        try:
            reading = read_increase(self._fetch, url)
        except RequestError as error:
            return Harvest(problem=error.message)
        if not reading.edges_s:
            return Harvest(problem=f"{self._base}: no series for model {self._model!r}")
        minute = reading.minute(start_s=start_s, source="prometheus", length_s=int(self._interval_s))
        return Harvest(
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
