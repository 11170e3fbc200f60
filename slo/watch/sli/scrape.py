"""
The server's own counts, from its Prometheus text: cumulative, so the difference of two readings is exact.

Nothing is counted twice and nothing between two readings is lost, whatever the time between them; a window of "the
last 60 seconds", asked for every 60 seconds or so, could promise neither. A server that was restarted counts from
zero again, however far it has come since: its start is another, or some bucket has fallen. Then its new counts are the
difference.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import lt, sub
from typing import Any, TypeVar, cast

from prometheus_client.parser import text_string_to_metric_families

from slo.errors import BadAnswer
from slo.stats import Histogram
from slo.watch.model.counts import BATCH_ANSWERED, BATCH_FAILED, Minute, Source, matching_edge

REQUESTS = "slo_request_duration_seconds"
OWN = "slo_own_request_duration_seconds"  # a server that counts our probes apart has it
REPLICAS = "slo_replica_request_duration_seconds"
STAGES = "slo_stage_duration_seconds"
STARTED = "slo_start_time_seconds"
GOOD_CODE = "2xx"
BATCH = "batch"  # the length class of requests that no deadline is held for: events of availability alone
# Codes that say what became of a request; 4xx is the caller's own mistake and no event of ours.
_NAME_OF_COUNTER = re.compile(r"_total(\{|$)")
Key = TypeVar("Key")
Numbers = TypeVar("Numbers", bound=tuple[float, ...])
OUTCOMES: Mapping[str, str] = {
    "429": "refused", "5xx": "server_fault", "timeout": "timeout", "gone": "client_gone",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scrape:
    """Cumulative counts at one instant. `requests` by code and class: counts per edge, the last one +Inf.

    `replicas` are the same by code and replica, of those requests that one computed or owed, `probes` those of our
    probes; `apart` says whether the server counts these apart. `stages` are seconds and number by stage. `other` are
    single numbers by metric name and sorted labels.
    """

    edges_s: tuple[float, ...] = ()
    requests: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    replicas: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    probes: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    apart: bool = False
    stages: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    other: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `reading_from_json` reads it; what a restarted watcher continues from."""
        return {
            "edges_s": list(self.edges_s),
            "requests": [[*key, list(counts)] for key, counts in self.requests.items()],
            "replicas": [[*key, list(counts)] for key, counts in self.replicas.items()],
            "probes": [[*key, list(counts)] for key, counts in self.probes.items()],
            "apart": self.apart,
            "stages": {name: list(value) for name, value in self.stages.items()},
            "other": dict(self.other),
        }

    def minus(self, earlier: Scrape) -> Scrape:
        """What happened since `earlier`; everything so far, if the server has started anew in between."""
        if self._restarted(earlier):
            return self
        return Scrape(
            edges_s=self.edges_s,
            requests=_since(self.requests, earlier.requests, _shrank),
            replicas=_since(self.replicas, earlier.replicas, _shrank),
            probes=_since(self.probes, earlier.probes, _shrank),
            apart=self.apart,
            stages=_since(self.stages, earlier.stages, _fell),
            other={
                name: _since({name: (value,)}, {name: (earlier.other.get(name, 0.0),)}, _fell)[name][0]
                if _NAME_OF_COUNTER.search(name)
                else value
                for name, value in self.other.items()
            },
        )

    def _restarted(self, earlier: Scrape) -> bool:
        """Has the server started anew since `earlier`? Its histograms of requests only grow while it runs."""
        started = self.other.get(STARTED), earlier.other.get(STARTED)
        return (
            self.edges_s != earlier.edges_s
            or (None not in started and started[0] != started[1])
            or any(key not in self.requests or _shrank(counts, self.requests[key])
                   for key, counts in earlier.requests.items())
        )  # fmt: skip

    def minute(self, *, start_s: int, source: Source, length_s: int = 60) -> Minute:
        """The requests of this difference as one slice."""
        histogram, outcomes = Histogram(self.edges_s), dict[str, int]()
        for (code, class_), cumulative in self.requests.items():
            if class_ == BATCH:
                if (code == GOOD_CODE or code in OUTCOMES) and cumulative[-1]:
                    name = BATCH_ANSWERED if code == GOOD_CODE else BATCH_FAILED
                    outcomes[name] = outcomes.get(name, 0) + cumulative[-1]
            elif code == GOOD_CODE:
                histogram.add(Histogram(self.edges_s, _apart(cumulative)))
            elif code in OUTCOMES and cumulative[-1]:
                outcomes[OUTCOMES[code]] = outcomes.get(OUTCOMES[code], 0) + cumulative[-1]
        return Minute(start_s=start_s, source=source, length_s=length_s, histogram=histogram, outcomes=outcomes)

    @property
    def cache_hit_ratio(self) -> float | None:
        """Share of texts that the cache answered: none, where it is switched off. None without answers."""
        hits = self.other.get("slo_cache_lookups_total{result=hit}", 0.0)
        lookups = hits + self.other.get("slo_cache_lookups_total{result=miss}", 0.0)
        if lookups:
            return hits / lookups
        return 0.0 if any(counts[-1] for (code, _), counts in self.requests.items() if code == GOOD_CODE) else None

    def evidence(self, threshold_ms: float) -> dict[str, Any]:
        """What `alerting.diagnosis` asks for, but for the requests' number and outcomes.

        Good and total by length class and by replica are empty where the threshold is no edge. Our own probes are as
        good as evidence as anybody's requests.
        """
        return {
            "classes": self._parts((*self.requests.items(), *self.probes.items()), threshold_ms),
            "replicas": self._parts(self.replicas.items(), threshold_ms),
            "stages": {name: list(value) for name, value in self.stages.items()},
        }

    def _parts(
        self, parts: Iterable[tuple[tuple[str, str], tuple[int, ...]]], threshold_ms: float
    ) -> dict[str, list[int]]:
        """Good and total by the second name of the key, the first one being the code."""
        edge = matching_edge(self.edges_s, threshold_ms)
        if edge is None:
            return {}
        place, found = self.edges_s.index(edge), defaultdict[str, list[int]](lambda: [0, 0])
        for (code, name), cumulative in parts:
            if name != BATCH and (code == GOOD_CODE or code in OUTCOMES):
                found[name][0] += cumulative[place] if code == GOOD_CODE else 0
                found[name][1] += cumulative[-1]
        return {name: counts for name, counts in found.items() if counts[1]}


def reading_from_json(data: Mapping[str, Any]) -> Scrape:
    """The reading that `to_json` described."""
    return Scrape(
        edges_s=tuple(data["edges_s"]),
        requests={(code, name): tuple(counts) for code, name, counts in data["requests"]},
        replicas={(code, name): tuple(counts) for code, name, counts in data.get("replicas", ())},
        probes={(code, name): tuple(counts) for code, name, counts in data.get("probes", ())},
        apart=bool(data.get("apart")),
        stages={name: (value[0], value[1]) for name, value in data["stages"].items()},
        other=dict(data["other"]),
    )


def parse_exposition(text: str, *, model: str, url: str) -> Scrape:
    """The reading in a `/slo/metrics` page, requests for `model` alone.

    Raises `BadAnswer` for a page that is not Prometheus text.
    """
    buckets, probes, by_replica = _table(), _table(), _table()
    tables = {
        f"{REQUESTS}_bucket": (buckets, "length_class"),
        f"{OWN}_bucket": (probes, "length_class"),
        f"{REPLICAS}_bucket": (by_replica, "replica"),
    }
    apart = False
    seconds: dict[str, float] = defaultdict(float)
    numbers: dict[str, int] = defaultdict(int)
    other: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            apart = apart or family.name == OWN
            for sample in family.samples:
                labels = sample.labels
                if sample.name in tables:
                    table, name = tables[sample.name]
                    if labels.get("model", model) == model and _counts(sample.name, labels):
                        key = (labels.get("code", GOOD_CODE), labels.get(name, ""))
                        table[key][float(labels["le"])] += int(sample.value)
                elif sample.name == f"{STAGES}_sum":
                    seconds[labels.get("stage", "")] += sample.value
                elif sample.name == f"{STAGES}_count":
                    numbers[labels.get("stage", "")] += int(sample.value)
                elif not sample.name.startswith((REQUESTS, OWN, REPLICAS, STAGES)):
                    marks = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
                    other[f"{sample.name}{{{marks}}}" if marks else sample.name] = sample.value
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadAnswer(f"{url}: not Prometheus text: {error}", url=url) from error
    rows = (*buckets.values(), *by_replica.values(), *probes.values())
    edges = sorted({edge for row in rows for edge in row})
    if any(sorted(row) != edges for row in rows):
        raise BadAnswer(f"{url}: histograms with different edges", url=url)
    if any(count < 0 for row in rows for count in _apart(tuple(row[edge] for edge in edges))):
        raise BadAnswer(f"{url}: a histogram whose buckets do not grow", url=url)
    return Scrape(
        edges_s=tuple(edge for edge in edges if edge != float("inf")),
        requests={key: tuple(row[edge] for edge in edges) for key, row in buckets.items()},
        replicas={key: tuple(row[edge] for edge in edges) for key, row in by_replica.items()},
        probes={key: tuple(row[edge] for edge in edges) for key, row in probes.items()},
        apart=apart,
        stages={name: (seconds[name], numbers[name]) for name in seconds},
        other=other,
    )


def _table() -> dict[tuple[str, str], dict[float, int]]:
    return defaultdict(lambda: defaultdict(int))


def _counts(metric: str, labels: Mapping[str, str]) -> bool:
    """Is this series an event, or one of our probes?"""
    return not metric.startswith(OWN) or labels.get("source") == "probe"


def spread(minute: Minute, starts_s: Iterable[int]) -> list[Minute]:
    """`minute` divided evenly over several: what is known of the time when nobody looked is only its sum."""
    starts = tuple(starts_s)
    share = _sharer(len(starts))
    return [
        Minute(
            start_s=start_s,
            source=minute.source,
            length_s=minute.length_s,
            histogram=Histogram(
                minute.histogram.edges_s,
                [share(count, index) for count in minute.histogram.counts],
                minute.histogram.sum_s / len(starts),
            ),
            outcomes={outcome: share(count, index) for outcome, count in minute.outcomes.items()},
        )
        for index, start_s in enumerate(starts)
    ]


def _sharer(parts: int) -> Callable[[int, int], int]:
    """`share(count, index)`: whole numbers, at most one apart, that add up to `count` over all indices."""

    def share(count: int, index: int) -> int:
        return count * (index + 1) // parts - count * index // parts

    return share


def _since(
    now: Mapping[Key, Numbers], before: Mapping[Key, Numbers], anew: Callable[[Numbers, Numbers], bool]
) -> dict[Key, Numbers]:
    """The differences, key by key; where `anew(before, now)`, everything is new."""
    found: dict[Key, Numbers] = {}
    for key, numbers in now.items():
        earlier = before.get(key)
        if earlier is None or anew(earlier, numbers):
            found[key] = numbers
        else:
            found[key] = cast("Numbers", tuple(map(sub, numbers, earlier)))
    return found


def _shrank(before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    """Did any bucket fall? Each by itself: their running sums may all have grown."""
    return _fell(tuple(_apart(before)), tuple(_apart(now)))


def _fell(before: tuple[float, ...], now: tuple[float, ...]) -> bool:
    return any(map(lt, now, before))


def _apart(cumulative: tuple[int, ...]) -> list[int]:
    return [now - before for before, now in zip((0, *cumulative), cumulative, strict=False)]
