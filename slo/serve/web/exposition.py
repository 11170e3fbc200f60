"""
`/slo/metrics`: what `Telemetry` has counted, as Prometheus text. Names as in the project's documentation.

The fine histograms are summed up to the standard edges and the objectives' thresholds; they share these edges, so
the sums are exact.

What `slo watch` tells Prometheus is passed on (`watch_metrics`): one address to scrape has both. The watch writes its
figures into files of the state directory. The sign of life is there from the start, as 0, so that a watch that never
ran is missed as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from slo import __version__
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import Fine, Telemetry
from slo.serve.telemetry.window import Series
from slo.serve.web.processes import Processes, ProcessUse
from slo.stats import edge_label

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# name, help, prefix of the counter's series, labels
COUNTERS = (
    ("slo_rejected", "Requests refused or given up, by reason", "rejected", ("reason",)),
    ("slo_deferred_requests", "Requests admitted although they would be late", "deferred", ()),
    ("slo_excluded_requests", "Requests that are no events: the client left early", "excluded", ("reason",)),
    ("slo_cache_lookups", "Texts looked up in the cache", "cache", ("result",)),
    ("slo_truncated", "Texts beyond the model's limit of tokens, and characters not read", "truncated", ("what",)),
    ("slo_passes", "Passes through an engine, and the texts and tokens in them", "pass", ("what",)),
    ("slo_replica_events", "Replicas given up", "replica", ("event",)),
)


class Exposition(Collector):
    """A collector with a registry of its own; `text()` is the page."""

    def __init__(self, directory: Directory, cache: Cache, telemetry: Telemetry, processes: Processes) -> None:
        self._directory = directory
        self._cache = cache
        self._telemetry = telemetry
        self._processes = processes
        self._started_s = round(time.time(), 3)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """The metrics as they are now."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing in advance: registering must not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client."""
        telemetry = self._telemetry
        requests = HistogramMetricFamily(
            "slo_request_duration_seconds",
            "From the arrival of the last byte of the body to the handing over of the answer",
            labels=("model", "length_class", "source", "code", "cache"),
        )
        # From the start, at zero: what is born with its first failure has failed for nobody who watches increases.
        unseen = dict.fromkeys(self._expected() - telemetry.requests.keys(), Fine(telemetry.edges))
        for (model, length, code, cache), fine in (telemetry.requests | unseen).items():
            _add(requests, (model, length, "gateway", code, cache), fine)
        yield requests
        own = HistogramMetricFamily(
            "slo_own_request_duration_seconds",
            "The same, of the toolkit's own probes and measurements, which are nobody's events",
            labels=("model", "length_class", "source", "code", "cache"),
        )
        for series, fine in telemetry.own_requests.items():
            _add(own, series, fine)
        yield own
        computed = HistogramMetricFamily(
            "slo_replica_request_duration_seconds",
            "The same, of requests that a replica computed or owed",
            labels=("model", "replica", "code"),
        )
        for series, fine in telemetry.computed_by.items():
            _add(computed, series, fine)
        yield computed
        stages = HistogramMetricFamily("slo_stage_duration_seconds", "Parts of requests and passes", labels=("stage",))
        for name, fine in telemetry.stages.items():
            _add(stages, (name,), fine)
        yield stages
        for name, help_, prefix, labels in COUNTERS:
            family = CounterMetricFamily(name, help_, labels=labels)
            for series, value in telemetry.counters.items():
                if series[0] == prefix:
                    family.add_metric(series[1:], value)
            yield family
        yield from self._gauges()
        yield from _processes(self._processes.uses())

    def _expected(self) -> set[Series]:
        """The series that objectives are asked of, for each model that is served."""
        return {
            (lane.model, length, code, "miss")
            for lane in self._directory.lanes
            for length in ("short", "medium", "long", "batch")
            for code in ("2xx", "429", "5xx", "timeout")
        }

    def _gauges(self) -> Iterator[Metric]:
        lanes = self._directory.lanes
        yield GaugeMetricFamily("slo_inflight_requests", "Requests being answered", value=self._telemetry.in_flight)
        queue = GaugeMetricFamily("slo_queue_tokens", "Tokens waiting, estimated", labels=("model", "class"))
        rate = GaugeMetricFamily("slo_capacity_tokens_per_second", "Tokens that full passes compute", labels=("model",))
        replicas = GaugeMetricFamily("slo_replicas", "Replicas that answer", labels=("model",))
        computed = CounterMetricFamily(
            "slo_engine_tokens", "Tokens of texts, and those that only fill the shape of a pass",
            labels=("model", "replica", "what"),
        )  # fmt: skip
        for lane in lanes:
            queue.add_metric((lane.model, "online"), lane.planner.online_tokens)
            queue.add_metric((lane.model, "deferred"), lane.planner.deferred_tokens)
            queue.add_metric((lane.model, "batch"), lane.planner.batch_tokens)
            rate.add_metric((lane.model,), lane.capacity_tokens_per_s())
            replicas.add_metric((lane.model,), len(lane.replicas))
            for replica in lane.replicas:
                for what, key in (("text", "tokens"), ("filling", "filling_tokens")):
                    if isinstance(tokens := replica.status.get(key), int):
                        computed.add_metric((lane.model, replica.identity[0], what), tokens)
        yield from (queue, rate, replicas, computed)
        yield GaugeMetricFamily("slo_cache_bytes", "Size of the cache", value=self._cache.bytes)
        yield GaugeMetricFamily("slo_cache_entries", "Vectors in the cache", value=len(self._cache))
        yield GaugeMetricFamily("slo_start_time_seconds", "When the API process began to count", value=self._started_s)
        info = GaugeMetricFamily("slo_build_info", "Version of xinference-slo", labels=("version",))
        info.add_metric((__version__,), 1)
        yield info


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], fine: Fine) -> None:
    buckets: list[tuple[str, float]] = []
    total, start = 0, 0
    for edge, end in zip(fine.edges.coarse_s, fine.edges.ends, strict=True):
        total += sum(fine.bins[start:end])
        start = end
        buckets.append((edge_label(edge), total))
    buckets.append(("+Inf", sum(fine.bins)))
    family.add_metric(labels, buckets, fine.sum_s)


def _processes(uses: list[ProcessUse]) -> Iterator[Metric]:
    cpu = CounterMetricFamily("slo_process_cpu_seconds", "Processor time used", labels=("process",))
    resident = GaugeMetricFamily(
        "slo_process_resident_memory_bytes", "Memory, pages shared with others counted in full", labels=("process",)
    )
    proportional = GaugeMetricFamily(
        "slo_process_proportional_memory_bytes",
        "Memory, shared pages counted by shares: these add up",
        labels=("process",),
    )
    for use in uses:
        cpu.add_metric((use.name,), use.cpu_s)
        resident.add_metric((use.name,), use.resident_bytes)
        if use.proportional_bytes is not None:
            proportional.add_metric((use.name,), use.proportional_bytes)
    yield from (cpu, resident, proportional)


FILES = ("watcher.prom", "notifications.prom")
ALIVE = "slo_watcher_last_success_timestamp_seconds"
MOST_BYTES = 64 * 1024
_OURS = ("slo_watcher_", "slo_alert_")


def watch_metrics(folder: Path) -> bytes:
    """The metrics of the files in `folder`, and nothing else that may stand in them."""
    lines: list[str] = []
    for name in FILES:
        try:
            with (folder / name).open("rb") as file:
                text = file.read(MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        # A line that was cut off, or is no metric of the watch, would spoil the whole page.
        lines += [line for line in text.rpartition("\n")[0].splitlines() if _is_ours(line)]
    if not any(line.startswith(ALIVE) for line in lines):
        lines += [f"# TYPE {ALIVE} gauge", f"{ALIVE} 0"]
    return "".join(f"{line}\n" for line in lines).encode()


def _is_ours(line: str) -> bool:
    words = line.split(" ", 3)
    name = words[2] if words[0] == "#" and len(words) > 2 else words[0]
    return name.startswith(_OURS) and len(words) > 1
