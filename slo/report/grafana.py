"""
A Grafana dashboard for `/slo/metrics`, and the files that provision it: classic JSON, importable from 10.4 on.

Every panel stands in one row of one table below. The data source is a variable, the objective a red line. A panel that
needs the recorded rules says so in its description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from slo.report.prometheus import to_yaml
from slo.report.promise import METRIC, ONLINE, Promise, literal

Kind = Literal["stat", "gauge", "timeseries", "bargauge", "heatmap", "table"]
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_RATE = "$__rate_interval"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel: `targets` are (query, legend); a `limit` is drawn as a line and turns the value red beyond it."""

    title: str
    kind: Kind
    targets: tuple[tuple[str, str], ...]
    width: int
    unit: str = "short"
    limit: float | None = None
    red_below: bool = False
    description: str = ""
    instant: bool = False


def panels(promise: Promise) -> list[Panel]:
    """All panels in reading order. Widths add up to rows of 24."""
    counted = f'{METRIC}_count{{model="$model",{ONLINE},code!="4xx"}}'
    answered = f'{METRIC}_bucket{{model="$model",{ONLINE},code="2xx"}}'
    every = f'{METRIC}_bucket{{model="$model",code="2xx"}}'
    edge = literal(promise.threshold_s or 0.15)
    good = f'{METRIC}_bucket{{model="$model",{ONLINE},code="2xx",le="{edge}"}}'

    def p95(window: str) -> str:
        return f"histogram_quantile({literal(promise.target)}, sum by (le) (rate({answered}[{window}])))"

    def share(window: str) -> str:
        return f"(sum(rate({good}[{window}])) or vector(0)) / (sum(rate({counted}[{window}])) > 0)"

    rules = f'{{sloth_id="$model-{promise.name}"}}'
    needs_rules = "Needs the recorded rules of `slo export prometheus`."
    percentile = f"P{literal(promise.target * 100)}"
    return [
        Panel(title=f"{percentile} now", kind="stat", width=4, unit="s", limit=promise.threshold_s,
              targets=((p95("5m"), percentile),), description="Estimated within a bucket; the verdict counts."),
        Panel(title="Within the objective", kind="gauge", width=4, unit="percentunit", limit=promise.target,
              red_below=True, targets=((share("5m"), "good"),)),
        Panel(title="Success rate", kind="stat", width=4, unit="percentunit", limit=0.998, red_below=True,
              targets=((f'sum(rate({METRIC}_count{{model="$model",{ONLINE},code="2xx"}}[5m]))'
                        f" / (sum(rate({counted}[5m])) > 0)", "answered"),)),
        Panel(title="In flight", kind="stat", width=4, targets=(("sum(slo_inflight_requests)", "requests"),)),
        Panel(title="Error budget left", kind="gauge", width=4, unit="percentunit", limit=0.0, red_below=True,
              targets=((f"slo:period_error_budget_remaining:ratio{rules}", "left"),), description=needs_rules),
        Panel(title="Burn rate", kind="stat", width=4, limit=1.0,
              targets=((f"slo:current_burn_rate:ratio{rules}", "burn"),), description=needs_rules),
        Panel(title="Latency", kind="timeseries", width=12, unit="s", limit=promise.threshold_s,
              targets=((p95(_RATE), percentile),
                       (f"histogram_quantile(0.5, sum by (le) (rate({answered}[{_RATE}])))", "P50"))),
        Panel(title="SLO attainment", kind="timeseries", width=12, unit="percentunit", limit=promise.target,
              red_below=True, targets=((share("5m"), "5 m"), (share("1h"), "1 h"),
                                       (share("1d"), "24 h"))),
        Panel(title="Requests by result", kind="timeseries", width=8, unit="reqps",
              targets=((f'sum by (code) (rate({METRIC}_count{{model="$model"}}[{_RATE}]))', "{{code}}"),)),
        Panel(title="Latency by length class", kind="timeseries", width=8, unit="s", limit=promise.threshold_s,
              targets=((f"histogram_quantile({literal(promise.target)}, sum by (le, length_class)"
                        f" (rate({every}[{_RATE}])))", "{{length_class}}"),)),
        Panel(title="Distribution of latencies", kind="heatmap", width=8, unit="s",
              targets=((f"sum by (le) (increase({answered}[{_RATE}]))", "{{le}}"),)),
        Panel(title="Mean time by stage", kind="timeseries", width=8, unit="s",
              targets=((f"sum by (stage) (rate(slo_stage_duration_seconds_sum[{_RATE}]))"
                        f" / (sum by (stage) (rate(slo_stage_duration_seconds_count[{_RATE}])) > 0)", "{{stage}}"),)),
        Panel(title="Queue", kind="timeseries", width=8,
              targets=(("sum by (class) (slo_queue_tokens)", "{{class}} tokens"),
                       ("sum(slo_inflight_requests)", "requests in flight"))),
        Panel(title="Refused requests", kind="timeseries", width=8, unit="reqps",
              targets=((f"sum by (reason) (rate(slo_rejected_total[{_RATE}]))", "{{reason}}"),)),
        Panel(title="Per pass", kind="timeseries", width=8,
              targets=tuple((f'sum(rate(slo_passes_total{{what="{what}"}}[{_RATE}]))'
                             f' / (sum(rate(slo_passes_total{{what="passes"}}[{_RATE}])) > 0)', what)
                            for what in ("tokens", "texts"))),
        Panel(title="Cache hit ratio", kind="timeseries", width=8, unit="percentunit",
              targets=((f'sum(rate(slo_cache_lookups_total{{result="hit"}}[{_RATE}]))'
                        f" / (sum(rate(slo_cache_lookups_total[{_RATE}])) > 0)", "hits"),)),
        Panel(title="Replicas", kind="timeseries", width=8,
              targets=(("sum by (model) (slo_replicas)", "{{model}}"),)),
        Panel(title="Processor", kind="timeseries", width=8,
              description="Cores in use, by process.",
              targets=((f"sum by (process) (rate(slo_process_cpu_seconds_total[{_RATE}]))", "{{process}}"),)),
        Panel(title="Memory", kind="timeseries", width=8, unit="bytes",
              description="Pages that processes share count by shares, so that the lines add up to the whole.",
              targets=(("sum by (process) (slo_process_proportional_memory_bytes)", "{{process}}"),)),
        Panel(title="Alert notifications", kind="timeseries", width=8,
              targets=(("sum by (channel, result) (increase(slo_alert_notifications_total[1h]))",
                        "{{channel}} {{result}}"),)),
        Panel(title="Firing alerts", kind="table", width=16, instant=True,
              targets=(('ALERTS{alertstate="firing"}', ""),), description=needs_rules),
        Panel(title="Version", kind="table", width=4, instant=True, targets=(("slo_build_info", "{{version}}"),)),
        Panel(title="Last round of the watcher", kind="stat", width=4, unit="s", limit=180.0,
              targets=(("time() - slo_watcher_last_success_timestamp_seconds", "ago"),)),
    ]  # fmt: skip


def dashboard_file(promise: Promise) -> str:
    """The dashboard as JSON."""
    return orjson.dumps(dashboard(promise), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def dashboard(promise: Promise) -> dict[str, Any]:
    """The dashboard as data. Its `uid` is fixed, so that an import replaces the older one."""
    return {
        "uid": "xinference-slo",
        "title": f"xinference-slo: {promise.title}",
        "tags": ["xinference", "slo"],
        "timezone": "browser",
        "editable": True,
        "refresh": "10s",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_datasource_variable(), _model_variable(promise)]},
        "annotations": {"list": marks()},
        "panels": _placed(panels(promise)),
    }


def provisioning_files(folder: str, prometheus_url: str) -> dict[str, str]:
    """Relative paths and contents for Grafana's provisioning directory; `folder` is where the dashboard lies.

    The data source has a name and a `uid` of its own and is not the default one: it takes nobody's place, and a second
    default would keep Grafana from starting.
    """
    provider = {
        "name": "xinference-slo",
        "type": "file",
        "updateIntervalSeconds": 60,
        "options": {"path": folder},
    }
    source = {
        "name": "Prometheus (xinference-slo)",
        "uid": "xinference-slo-prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": prometheus_url,
        "isDefault": False,
        "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},  # the scrape interval: rates need four of them
    }
    return {
        "provisioning/dashboards/xinference-slo.yaml": to_yaml({"apiVersion": 1, "providers": [provider]}),
        "provisioning/datasources/prometheus.yaml": to_yaml({"apiVersion": 1, "datasources": [source]}),
    }


def _placed(rows: Sequence[Panel]) -> list[dict[str, Any]]:
    """Panels from left to right, a new line whenever the next does not fit."""
    placed, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(rows, start=1):
        own = 5 if panel.kind in ("stat", "gauge") else 8
        if x + panel.width > 24:
            x, y, height = 0, y + height, 0
        height = max(height, own)
        placed.append(_panel(panel, number, {"h": own, "w": panel.width, "x": x, "y": y}))
        x += panel.width
    return placed


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.unit == "percentunit":
        defaults |= {"max": 1.0} if panel.kind != "gauge" else {"min": 0.0, "max": 1.0}
    if panel.kind == "timeseries":
        defaults["custom"] = {"fillOpacity": 5, "showPoints": "never"}
        if panel.limit is not None:
            defaults["custom"]["thresholdsStyle"] = {"mode": "line"}
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _DATASOURCE,
            "expr": query,
            "legendFormat": legend,
            **({"instant": True, "format": "table"} if panel.instant else {}),
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for index, (query, legend) in enumerate(panel.targets)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"calculate": False, "yAxis": {"unit": "s"}} if panel.kind == "heatmap" else {},
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    first, then = ("red", "green") if panel.red_below else ("green", "red")
    steps: list[dict[str, Any]] = [{"color": first if panel.limit is not None else "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": then, "value": panel.limit})
    return {"mode": "absolute", "steps": steps}


def _datasource_variable() -> dict[str, Any]:
    return {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0,
        "includeAll": False, "multi": False, "options": [], "refresh": 1, "regex": "",
    }  # fmt: skip


def _model_variable(promise: Promise) -> dict[str, Any]:
    current = {"text": promise.model, "value": promise.model, "selected": True}
    return {
        "type": "query", "name": "model", "label": "Model", "datasource": _DATASOURCE, "refresh": 2, "hide": 0,
        "query": {"query": f"label_values({METRIC}_count, model)", "refId": "model"}, "current": current,
        "definition": f"label_values({METRIC}_count, model)", "sort": 1,
    }  # fmt: skip


def marks() -> list[dict[str, Any]]:
    """Marks over all panels: alerts while they fire, and starts of the server's processes."""
    return [
        {
            "name": name, "enable": True, "iconColor": colour, "datasource": _DATASOURCE, "titleFormat": title,
            "textFormat": text, "step": "60s", "expr": query, "target": {"expr": query, "refId": "Anno"},
        }
        for name, colour, query, title, text in (
            ("Alerts", "red", 'ALERTS{alertstate="firing",model="$model"}', "{{alertname}}", "{{severity}}"),
            ("Starts", "purple", "resets(slo_process_cpu_seconds_total[2m]) > 0", "{{process}} started", ""),
        )
    ]  # fmt: skip
