"""
OpenSLO v1, out and in: one `SLO` document for each promise.

OpenSLO's burn-rate condition has one window; the short one stands in an annotation beside it, so that what we write
we can read back whole. A document that asks for what we cannot evaluate is refused with the path of the field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

import yaml

from slo.errors import ConfigError, SloError
from slo.report.prometheus import to_yaml
from slo.report.promise import METRIC, BurnWindow, Promise, Severity, literal, promql_window
from slo.units import parse_duration

_PREFIX = "xinference-slo/"
_MODEL = re.compile(r'model="([^"]+)"')
_EDGE = re.compile(r'le="([0-9.]+)"')


def openslo_file(promises: Sequence[Promise], *, header: str = "") -> str:
    """The YAML documents."""
    return header + "---\n".join(to_yaml(_document(promise)) for promise in promises)


def read_openslo(text: str, *, source: str = "OpenSLO") -> list[Promise]:
    """The promises in `text`. Raises `ConfigError` naming the field that is missing or not supported."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise ConfigError("not YAML", where=source) from error
    return [_promise(document, f"{source}[{index}]") for index, document in enumerate(documents)]


def _document(promise: Promise) -> dict[str, Any]:
    rows = [(severity, row) for severity, rows in promise.severities().items() for row in rows]
    return {
        "apiVersion": "openslo/v1",
        "kind": "SLO",
        "metadata": {
            "name": _name(promise.id),
            "displayName": f"{promise.model} {promise.title}",
            "annotations": {
                f"{_PREFIX}alert": promise.alert,
                f"{_PREFIX}name": promise.name,
                f"{_PREFIX}title": promise.title,
                f"{_PREFIX}min-total": str(promise.min_total),
                f"{_PREFIX}min-bad": str(promise.min_bad),
            },
        },
        "spec": {
            "service": promise.model,
            "indicator": {
                "metadata": {"name": _name(f"{promise.id}-ratio")},
                "spec": {
                    "ratioMetric": {
                        "counter": True,
                        "good": _query(promise.good),
                        "total": _query(promise.counted),
                    }
                },
            },
            "timeWindow": [{"duration": f"{promise.period_days}d", "isRolling": True}],
            "budgetingMethod": "Occurrences",
            "objectives": [{"displayName": promise.title, "target": float(literal(promise.target))}],
            "alertPolicies": [_policy(promise, *row, number) for number, row in enumerate(rows, start=1)],
        },
    }


def _query(selector: str) -> dict[str, Any]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": f"sum(rate({selector}[{{{{.window}}}}]))"}}}


def _policy(promise: Promise, severity: Severity, row: BurnWindow, number: int) -> dict[str, Any]:
    condition = {
        "kind": "AlertCondition",
        "metadata": {
            "name": _name(f"{promise.id}-burn-{number}"),
            "annotations": {f"{_PREFIX}short-window": promql_window(row.short_s)},
        },
        "spec": {
            "severity": severity,
            "condition": {
                "kind": "burnrate",
                "op": "gt",
                "threshold": row.factor,
                "lookbackWindow": promql_window(row.long_s),
                "alertAfter": "0m",
            },
        },
    }
    return {
        "kind": "AlertPolicy",
        "metadata": {"name": _name(f"{promise.id}-{severity}-{number}")},
        "spec": {
            "alertWhenBreaching": True,
            "alertWhenResolved": True,
            "alertWhenNoData": True,
            "conditions": [condition],
            "notificationTargets": [
                {"targetRef": f"slo-{'urgent' if severity in ('critical', 'page') else 'tickets'}"}
            ],
        },
    }


def _name(text: str) -> str:
    """RFC 1123: lower case, digits and dashes, at most 63 characters."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())[:63].strip("-")


def _promise(document: Any, where: str) -> Promise:
    field = _Reader(document, where)
    field.must("apiVersion", "openslo/v1")
    field.must("kind", "SLO")
    field.must("spec.budgetingMethod", "Occurrences")
    field.must("spec.timeWindow.0.isRolling", True)
    for path in ("spec.timeWindow", "spec.objectives"):
        if len(field(path)) != 1:
            raise ConfigError("exactly one is supported", where=f"{where}.{path}")
    good = str(field("spec.indicator.spec.ratioMetric.good.metricSource.spec.query"))
    total = str(field("spec.indicator.spec.ratioMetric.total.metricSource.spec.query"))
    model, edge = _MODEL.search(good), _EDGE.search(good)
    if METRIC not in good or METRIC not in total or model is None:
        raise ConfigError(
            f"only ratios of {METRIC} with a model can be evaluated",
            where=f"{where}.spec.indicator.spec.ratioMetric",
        )
    notes = field("metadata.annotations", {})
    try:
        target = field("spec.objectives.0.target", None)
        if target is None:
            target = float(field("spec.objectives.0.targetPercent")) / 100
        return Promise(
            model=model.group(1),
            name=notes.get(f"{_PREFIX}name", "latency" if edge else "availability"),
            title=notes.get(f"{_PREFIX}title", str(field("spec.objectives.0.displayName", field("metadata.name")))),
            alert=notes.get(f"{_PREFIX}alert", "LatencyBudgetBurn" if edge else "AvailabilityBudgetBurn"),
            target=float(target),
            threshold_s=float(edge.group(1)) if edge else None,
            windows=tuple(
                _window(policy, f"{where}.spec.alertPolicies.{index}")
                for index, policy in enumerate(field("spec.alertPolicies", []))
            ),
            period_days=round(parse_duration(str(field("spec.timeWindow.0.duration"))) / 86400),
            min_total=int(notes.get(f"{_PREFIX}min-total", 20)),
            min_bad=int(notes.get(f"{_PREFIX}min-bad", 5)),
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"not usable: {error}", where=where) from error


def _window(policy: Any, where: str) -> BurnWindow:
    field = _Reader(policy, where)
    if len(field("spec.conditions")) != 1:
        raise ConfigError("exactly one is supported", where=f"{where}.spec.conditions")
    field.must("spec.conditions.0.spec.condition.kind", "burnrate")
    long_s = _seconds(field("spec.conditions.0.spec.condition.lookbackWindow"), where)
    notes = field("spec.conditions.0.metadata.annotations", {})
    short = notes.get(f"{_PREFIX}short-window")
    severity = field("spec.conditions.0.spec.severity")
    if severity not in ("critical", "page", "ticket", "info"):
        raise ConfigError(f"severity {severity!r}", where=where, hint="one of critical, page, ticket, info")
    return BurnWindow(
        severity=cast("Severity", severity),
        long_s=long_s,
        # Google's rule of thumb where the document says nothing: a twelfth.
        short_s=_seconds(short, where) if short else max(60, long_s // 12),
        factor=float(field("spec.conditions.0.spec.condition.threshold")),
    )


def _seconds(text: Any, where: str) -> int:
    try:
        return round(parse_duration(text))
    except SloError as error:
        raise ConfigError(error.message, where=where) from error


_NEEDED = object()


class _Reader:
    """Reads `spec.objectives.0.target` out of a document, and names it when it is not there."""

    def __init__(self, document: Any, where: str) -> None:
        self._document = document
        self._where = where

    def __call__(self, path: str, default: Any = _NEEDED) -> Any:
        value = self._document
        for key in path.split("."):
            try:
                value = value[int(key)] if isinstance(value, list) else value[key]
            except (KeyError, IndexError, TypeError, ValueError):
                if default is _NEEDED:
                    raise ConfigError("missing", where=f"{self._where}.{path}") from None
                return default
        return value

    def must(self, path: str, expected: Any) -> None:
        """Refuse any other value."""
        value = self(path)
        if value != expected:
            raise ConfigError(f"{value!r} is not supported, only {expected!r}", where=f"{self._where}.{path}")
