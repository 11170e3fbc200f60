"""The form of `promtool test rules`: series over time, and the alerts that are expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slo.report.prometheus import alert_labels, sloth_labels, summary_of
from slo.report.promise import ONLINE, BurnWindow, Promise, Severity, literal, promql_window

PER_STEP = 10_000  # requests per step: whole numbers of bad ones for small ratios too
ONE_CLASS = 'length_class="short"'


def expect(promise: Promise, at_s: int, bad: float, runbook: str) -> dict[str, Any]:
    """The alerts that shall fire at `at_s`, when `bad` of the requests were bad for long enough."""
    firing = [
        severity
        for severity, windows in promise.severities().items()
        if any(exceeded(promise, window, bad) for window in windows)
    ]
    return {
        "eval_time": promql_window(at_s),
        "alertname": promise.alert,
        "exp_alerts": [
            {
                "exp_labels": {**alert_labels(promise, severity), **sloth_labels(promise)},
                "exp_annotations": {
                    **summary_of(promise, severity),
                    "description": f"{bad * 100:.4g}% of requests were bad over the long window;"
                    f" {literal(promise.budget * 100)} % may be.",
                    "runbook_url": f"{runbook}#{promise.alert.lower()}",
                },
            }
            for severity in firing
        ],
    }


def exceeded(promise: Promise, window: BurnWindow, bad: float) -> bool:
    """Is the budget burnt faster than the window allows?"""
    return bad > window.factor * promise.budget


def ratio_for(promise: Promise, severity: Severity) -> float:
    """Half way between the lowest threshold of `severity` and the next higher one of any other."""
    rows = promise.severities()
    own = min(window.factor for window in rows[severity]) * promise.budget
    above = [
        window.factor * promise.budget
        for other, windows in rows.items()
        if other != severity
        for window in windows
        if window.factor * promise.budget > own
    ]
    return round((own + min([*above, 1.0])) / 2, 3)


def series(promise: Promise, phases: Sequence[tuple[int, float]]) -> list[dict[str, str]]:
    """Counters through phases of (seconds, bad ratio)."""
    rest, good = input_series(promise)
    rest_values, good_values, rest_at, good_at = ["0"], ["0"], 0, 0
    for seconds, bad in phases:
        steps, step = seconds // step_s(promise), PER_STEP - round(PER_STEP * bad)
        # Slow requests are among all; failed ones are beside the good.
        rest_step = PER_STEP if promise.threshold_s is not None else PER_STEP - step
        rest_values.append(f"{rest_at + rest_step}+{rest_step}x{steps - 1}")
        good_values.append(f"{good_at + step}+{step}x{steps - 1}")
        rest_at += rest_step * steps
        good_at += step * steps
    steps = sum(seconds for seconds, _ in phases) // step_s(promise)
    return [
        {"series": rest, "values": " ".join(rest_values)},
        {"series": good, "values": " ".join(good_values)},
        # Of the batch class, as many as all others: slow ones are nobody's business, and those that fail are.
        *([{"series": rest.replace(ONE_CLASS, 'length_class="batch"'), "values": f"0+{PER_STEP}x{steps}"}]
          if promise.threshold_s is not None else []),
    ]  # fmt: skip


def input_series(promise: Promise) -> tuple[str, str]:
    """Names of two series: for latency all answered requests and the fast ones, else the failed and the answered."""
    good, counted = (query.replace(ONLINE, ONE_CLASS) for query in (promise.good, promise.counted))
    if promise.threshold_s is None:
        # What fails is of the batch class: that is no excuse.
        failed, good = (good.replace("code=", f"{class_},code=") for class_ in ('length_class="batch"', ONE_CLASS))
        return failed.replace('code="2xx"', 'code="5xx"'), good
    return counted.replace('code!="4xx"', 'code="2xx"'), good


def _braces(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


def step_s(promise: Promise) -> int:
    """Seconds between samples: four in the shortest window, but no more than needed, since promtool takes them all."""
    return min(60, min((window.short_s for window in promise.windows), default=60) // 4)
