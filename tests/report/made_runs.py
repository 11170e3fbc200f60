"""Run records of every kind, made up and reproducible."""

from __future__ import annotations

import math
import random
from typing import Any

from slo.objective import Objective, Verdict
from slo.records import Run
from slo.samples import Sample

HOST = {"cpu": "Test CPU", "cores": 2, "kernel": "6.1", "python": "3.11", "load_1m": 0.4}
SERVER = {"engine": "openvino", "precision": "int8", "replicas": 1, "stand_in": True}
CLASSES = {"short": 0.7, "medium": 1.0, "long": 1.35}


def samples(p95_ms: float, number: int, *, seed: int = 1, failing: float = 0.0) -> list[Sample]:
    """Log-normal latencies with this P95 for medium texts, one request every 20 ms."""
    source, found = random.Random(seed), []
    for index in range(number):
        name = list(CLASSES)[index % 3]
        median_ms = p95_ms * CLASSES[name] / math.exp(1.645 * 0.25)
        latency_s = median_ms * math.exp(source.gauss(0, 0.25)) / 1000
        due_s = index * 0.02
        outcome = "timeout" if source.random() < failing else "ok"
        found.append(Sample(due_s, due_s + 0.0002, due_s + latency_s, outcome, name))
    return found


def run(kind: str, p95_ms: float = 90.0, number: int = 1500, **given: Any) -> Run:
    """A record of one kind; `given` replaces fields."""
    fields: dict[str, Any] = {
        "kind": kind, "started_wall_s": 1_790_000_000.0, "endpoint": "http://127.0.0.1:9997/v1/embeddings",
        "model": "gte-base-zh", "objective": Objective(), "server": SERVER, "host": HOST,
        "settings": {"requests": number, "seed": 1, "command": f"slo {kind} --seed 1"},
        "samples": samples(p95_ms, number), "id": f"20260921T141320-{kind}-{int(p95_ms)}",
    }  # fmt: skip
    return Run(**{**fields, **given})


def load_run(p95_ms: float = 90.0) -> Run:
    """An open-loop run with stages and a self-check."""
    details = {
        "self_check": {"lag_p99_ms": 1.2, "lag_max_ms": 4.0, "cpu_share": 0.21, "little_gap": 0.004,
                       "clock_drift": 0.0001, "faults": [], "remarks": []},
        "answers": {"compared": 30, "wrong": 0},
        "stages": {"queue": {"mean_ms": 9.0, "p50_ms": 6, "p95_ms": 22.0}, "infer": {"mean_ms": 21.0, "p95_ms": 40.0}},
        "resource_summary": {"steal": 0.034, "rss_max": 900 * 2**20},
    }  # fmt: skip
    return run("load", p95_ms, details=details, notes=["3 answers came from a cache; they are counted apart"])


def capacity_run() -> Run:
    """A search with its probes; one probe had no P95, since most of its requests failed."""

    def probe(load: float, verdict: str, p95_ms: float | None, purpose: str = "search") -> dict[str, Any]:
        return {
            "load": load, "verdict": verdict, "total": 900, "good": 880 if verdict == "met" else 600,
            "p95_ms": p95_ms, "seconds": 20.0, "purpose": purpose, "remark": "", "target": 0.95, "void": False,
        }  # fmt: skip

    probes = [
        probe(5, "met", 31.0), probe(10, "met", 36.0), probe(20, "met", 52.0), probe(40, "met", 96.0),
        probe(80, "missed", None), probe(60, "missed", 214.0), probe(50, "met", 137.0), probe(55, "unproven", 151.0),
        probe(50, "met", 133.0, "confirm"),
    ]  # fmt: skip
    found = {"rate": 50.0, "best": 52.5, "bounded": True, "confirmed": True, "recommended": 40.0, "probes": probes}
    details = {"searches": {"mix": found}, "ladder": {"probes": [], "largest": 5}}
    return run("capacity", 60.0, 400, details=details, decided=Verdict.MET)


def stress_run() -> Run:
    """An hour of fifty callers in slices of five minutes."""
    slices = [
        {"index": i, "seconds": 300.0, "total": 900, "good": 880, "p95_ms": 138.0 + 9 * math.sin(i), "met": True,
         "failed": {}, "rate": 3.0}
        for i in range(12)
    ]  # fmt: skip
    soak = {
        "seconds": 3600.0, "requests": 10_800, "rate": 3.0, "p95_ms": 138.0, "worst_slice_p95_ms": 147.0,
        "attainment": 0.987, "slices_met": 1.0, "slices": 12, "clients": 50, "peak_in_flight": 50, "errors": 21,
        "error_rate": 0.002, "memory": {"bytes_per_hour": -3.1e6, "low": -9e6, "high": 2e6, "growing": False},
    }  # fmt: skip
    settings = {"clients": 50, "loop": "closed", "command": "slo stress --concurrency 50 --duration 1h"}
    return run("stress", 100.0, 900, details={"slices": slices, "soak": soak}, settings=settings)
