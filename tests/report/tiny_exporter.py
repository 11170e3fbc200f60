"""A real exporter with the metrics of `/slo/metrics`, whose requests are as good or bad as the test says."""

from __future__ import annotations

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from slo.stats import LATENCY_EDGES_S


class TinyExporter:
    """Counts 50 requests a tenth of a second, all slow while `slow`, until closed. Use `with`."""

    def __init__(self, model: str = "gte-base-zh") -> None:
        self.slow = False
        self._model = model
        self._closed = threading.Event()
        self._registry = CollectorRegistry()
        labels = ("model", "length_class", "source", "code", "cache")
        self._requests = Histogram(
            "slo_request_duration_seconds", "x", labels, buckets=LATENCY_EDGES_S, registry=self._registry
        )
        self._counters = {
            name: Counter(name, "x", names, registry=self._registry)
            for name, names in (
                ("slo_rejected", ("reason",)),
                ("slo_cache_lookups", ("result",)),
                ("slo_passes", ("what",)),
                ("slo_alert_notifications", ("channel", "result")),
                ("slo_process_cpu_seconds", ("process",)),
            )
        }
        stages = Histogram("slo_stage_duration_seconds", "x", ("stage",), registry=self._registry)
        self._stage = stages.labels("infer")
        for name, names, values in (
            ("slo_inflight_requests", (), ()),
            ("slo_queue_tokens", ("model", "class"), (model, "online")),
            ("slo_replicas", ("model",), (model,)),
            ("slo_build_info", ("version",), ("0",)),
            ("slo_process_proportional_memory_bytes", ("process",), ("api",)),
        ):
            gauge = Gauge(name, "x", names, registry=self._registry)
            (gauge.labels(*values) if names else gauge).set(1)
        alive = Gauge("slo_watcher_last_success_timestamp_seconds", "x", registry=self._registry)
        alive.set_to_current_time()
        lost = Gauge("slo_alert_last_failure_timestamp_seconds", "x", ("channel",), registry=self._registry)
        lost.labels("dingtalk").set(0)
        self._server: WSGIServer
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> TinyExporter:
        self._server, thread = start_http_server(0, "127.0.0.1", registry=self._registry)
        load = threading.Thread(target=self._count, daemon=True)
        load.start()
        self._threads = [thread, load]
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def _count(self) -> None:
        while not self._closed.wait(0.1):
            series = self._requests.labels(self._model, "short", "gateway", "2xx", "miss")
            for _ in range(50):
                series.observe(0.4 if self.slow else 0.02)
            self._stage.observe(0.01)
            self._counters["slo_rejected"].labels("deadline").inc()
            self._counters["slo_cache_lookups"].labels("hit").inc()
            self._counters["slo_alert_notifications"].labels("dingtalk", "delivered").inc()
            self._counters["slo_process_cpu_seconds"].labels("api").inc(0.1)
            for what in ("passes", "texts", "tokens"):
                self._counters["slo_passes"].labels(what).inc()
