"""
What `/slo/api/window` and `/slo/api/status` say, as plain values.

Of a window, `total` is every online request that the service answers for: 2xx, 429, 5xx, timeouts, and clients that
gave up after more than the deadline. `excluded` are those that are neither good nor bad: a client's own mistakes (4xx),
clients that left earlier, or before their request was here, and requests of the batch class, for which no deadline is
held. `availability` is of every class: whatever was answered is good, however late.
The toolkit's own probes and measurements are no users: they stand under `own`.
`good` are those answered with 2xx within the threshold. Percentiles are of 2xx answers, at most 2 % too long.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slo import __version__
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.lane import Lane
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import BinCounts, Edges, Series, no_counts
from slo.serve.web.control import Control
from slo.serve.web.processes import Processes
from slo.settings_serve import ServeSection

_ABSENT = {"CREATING": "loading", "LOADING": "loading", "TERMINATING": "stopping"}  # Xinference's words
CODES = ("2xx", "4xx", "429", "5xx", "timeout", "gone")
MIX_TOKENS = 27  # tokens of a mean request of the standard mix (4, 20 and 50 characters, a third each)


def window_report(telemetry: Telemetry, seconds: int, threshold_s: float, model: str = "") -> dict[str, Any]:
    """BinCounts, good counts and percentiles over the last `seconds`, of `model` alone if one is named."""
    now_s = telemetry.now()
    histograms, counters = telemetry.window.sums(seconds, now_s)
    histograms = {s: c for s, c in histograms.items() if not model or s[0] == "stage" or s[1] == model}
    requests = {series[1:]: counts for series, counts in histograms.items() if series[0] == "request"}
    online = {series: counts for series, counts in requests.items() if series[1] != "batch"}
    classes = sorted({series[1] for series in requests})

    def figures(parts: dict[Series, BinCounts]) -> dict[str, Any]:
        return _figures(parts, threshold_s, telemetry.edges)

    return {
        "seconds": seconds,
        **({"model": model} if model else {}),
        "covered_s": round(min(float(seconds), now_s - telemetry.started_s), 3),
        "threshold_ms": threshold_s * 1000,
        **figures(online),
        "availability": _availability(requests),
        "excluded": {
            "caller_erred": sum(c.total for s, c in requests.items() if s[2] == "4xx"),
            "batch": sum(c.total for s, c in requests.items() if s[1] == "batch" and s[2] != "4xx"),
            "client_gone": counters.get(("excluded", "client_gone"), 0),
            "upload_broken_off": counters.get(("excluded", "upload_broken_off"), 0),
        },
        "cached": figures({s: c for s, c in online.items() if s[3] == "hit"}),
        "computed": figures({s: c for s, c in online.items() if s[3] == "miss"}),
        "classes": {name: figures({s: c for s, c in requests.items() if s[1] == name}) for name in classes},
        "own": {
            source: figures(
                {(s[1], s[2], *s[4:]): c for s, c in histograms.items() if s[0] == "own" and s[3] == source}
            )
            for source in sorted({s[3] for s in histograms if s[0] == "own"})
        },
        "stages": {series[1]: _percentiles(counts) for series, counts in histograms.items() if series[0] == "stage"},
        "deferred": counters.get(("deferred",), 0),
        "rejected": {series[1]: count for series, count in counters.items() if series[0] == "rejected"},
        "cache": {result: counters.get(("cache", result), 0) for result in ("hit", "miss")},
        "truncated": {what: counters.get(("truncated", what), 0) for what in ("texts", "characters")},
        "passes": {what: counters.get(("pass", what), 0) for what in ("passes", "texts", "tokens")},
    }


def status_report(
    settings: ServeSection, directory: Directory, cache: Cache, telemetry: Telemetry, processes: Processes,
    control: Control | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Version, models with their replicas and capacity, cache, processes, settings, and what was ordered since.

    `memory_bytes` of a process counts shared pages by shares where `memory_kind` is "proportional", else in full.
    """
    lanes = directory.lanes
    statuses = [replica.status for lane in lanes for replica in lane.replicas]
    return {
        "name": "xinference-slo",
        "version": __version__,
        "uptime_s": round(telemetry.now() - telemetry.started_s, 1),
        "in_flight": telemetry.in_flight,
        "stand_in": any(bool(status.get("stand_in")) for status in statuses),
        "precision": next((status["precision"] for status in statuses if "precision" in status), None),
        "models": [_model(lane) for lane in lanes],
        "cache": {
            "enabled": cache.enabled,
            "entries": len(cache),
            "bytes": cache.bytes,
            "max_bytes": cache.max_bytes,
            "evictions": cache.evictions,
        },
        "processes": [
            {
                "name": use.name,
                "cpu_s": round(use.cpu_s, 2),
                "memory_bytes": use.memory_bytes,
                "resident_bytes": use.resident_bytes,
                "memory_kind": "resident" if use.proportional_bytes is None else "proportional",
            }
            for use in processes.uses()
        ],
        "settings": settings.model_dump(mode="json"),
        **({} if control is None else {"control": control.report()}),
    }


def _model(lane: Lane) -> dict[str, Any]:
    rate = lane.capacity_tokens_per_s()
    return {
        "model": lane.model,
        "generation": lane.generation,
        "queue_tokens": {
            "online": lane.planner.online_tokens,
            "deferred": lane.planner.deferred_tokens,
            "batch": lane.planner.batch_tokens,
        },
        "pass_tokens": lane.planner.pass_tokens,
        "cost": {
            "call_ms": round(lane.cost.call_s * 1000, 3),
            "token_ms": round(lane.cost.token_s * 1000, 4),
            "overhead_ms": round(lane.cost.overhead_s * 1000, 3),
            "passes": lane.cost.passes,
        },
        "capacity": {"tokens_per_s": round(rate, 1), "requests_per_s": round(rate / MIX_TOKENS, 1)},
        "replicas": [
            {
                "uid": replica.identity[0],
                "address": replica.identity[1],
                "in_flight": len(replica.load.passes_s),
                "tokens": replica.load.tokens,
                "engine": replica.status,
            }
            for replica in lane.replicas
        ],
        "absent": [{"uid": uid, "state": state} for uid, state in absent_replicas(lane)],
    }


def absent_replicas(lane: Lane) -> list[tuple[str, str]]:
    """Replicas that do not serve, with loading, stopping or down; what is said to be ready and does not answer is down.

    Replicas that were ended on purpose are none.
    """
    serving = {replica.identity[0] for replica in lane.replicas}
    return [
        (uid, _ABSENT.get(state, "down"))
        for uid, state in lane.states.items()
        if uid not in serving and state != "TERMINATED"
    ]


def _figures(requests: dict[Series, BinCounts], threshold_s: float, edges: Edges) -> dict[str, Any]:
    """Figures over series of (model, length class, code, cache)."""
    by_code = {code: _sum((c for s, c in requests.items() if s[2] == code), edges) for code in CODES}
    answered = by_code["2xx"]
    total = sum(by_code[code].total for code in CODES if code != "4xx")
    good = answered.within(threshold_s)
    return {
        "total": total,
        "good": good,
        "attainment": good / total if total else None,
        "codes": {code: counts.total for code, counts in by_code.items()},
        **_percentiles(answered),
    }


def _availability(requests: dict[Series, BinCounts]) -> dict[str, int]:
    events = {series: counts.total for series, counts in requests.items() if series[2] != "4xx"}
    return {"total": sum(events.values()), "good": sum(n for s, n in events.items() if s[2] == "2xx")}


def _percentiles(counts: BinCounts) -> dict[str, Any]:
    values = {f"p{q * 100:g}_ms": counts.quantile_s(q) for q in (0.5, 0.9, 0.95, 0.99)}
    return {"count": counts.total, **{k: None if v is None else round(v * 1000, 3) for k, v in values.items()}}


def _sum(parts: Iterable[BinCounts], edges: Edges) -> BinCounts:
    result = no_counts(edges)
    for part in parts:
        result = result + part
    return result
