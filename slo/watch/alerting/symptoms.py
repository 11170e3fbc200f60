"""
What users notice, in a few words for a title: nobody answers, so many fail, or it is slow. English and Chinese.

Shares are those of the windows that fired, not of the last hour: an outage of two minutes is an outage. Of an incident
that is over, the worst moment, from the minutes that the history kept of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from slo.stats import Histogram
from slo.units import show_ms
from slo.watch.alerting.diagnosis import Cause
from slo.watch.alerting.round import Round
from slo.watch.alerting.rules import NO_DATA_ALERT, REMEDIATION_ALERT, SPENT_ALERT, STORE_ALERT, Rule
from slo.watch.alerting.words import duration_en, duration_zh, period_zh, share
from slo.watch.budget.budget import Budget
from slo.watch.model.latency import percentile
from slo.watch.model.objectives import Goal

LOOKS = 400  # windows at most: a long incident is looked at in larger steps

Latencies = Callable[[float, float], tuple[Histogram, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The highest percentile of any window in milliseconds, infinite where failures exceed what it leaves out, and the
    largest share of requests that failed in any one interval. NaN and 0 without requests."""

    latency_ms: float
    failed: float


def worst_of(
    latencies: Latencies, *, start_s: float, end_s: float, interval_s: float, window_s: float, quantile: float
) -> Worst:
    """Look at every window that ends within the incident; `latencies(start, end)` gives its answers and failures."""
    step_s = interval_s * max(1, math.ceil((end_s - start_s) / interval_s / LOOKS))
    latency_ms, failed = math.nan, 0.0
    at_s = end_s
    while at_s > start_s:
        value_ms = percentile(*latencies(at_s - window_s, at_s), quantile).value_ms
        if not math.isnan(value_ms) and not value_ms <= latency_ms:
            latency_ms = value_ms
        histogram, lost = latencies(at_s - step_s, at_s)
        if lost:
            failed = max(failed, lost / (histogram.total + lost))
        at_s -= step_s
    return Worst(latency_ms=latency_ms, failed=failed)


NEARLY_ALL = 0.9  # of the requests unreachable: then the service is

_ITSELF: Mapping[str, tuple[str, str]] = {
    NO_DATA_ALERT: ("nothing is measured", "没有测量数据"),
    STORE_ALERT: ("the history cannot be written", "历史数据无法写入"),
    REMEDIATION_ALERT: ("an automatic action did not help", "自动恢复未奏效"),
}


def symptom(  # noqa: PLR0911 - one return for each kind of trouble
    found: Round, lead: Rule, budget: Budget | None, causes: Sequence[Cause]
) -> tuple[str, str]:
    """The alert `lead` in words of its users."""
    values = found.alerts[lead.key].values
    if lead.alert == NO_DATA_ALERT and values.get("silent_s"):
        silent_s = values["silent_s"]
        return f"nothing measured for {duration_en(silent_s)}", f"{duration_zh(silent_s)}没有任何测量结果"
    if budget is None or lead.alert in _ITSELF:
        return _ITSELF.get(lead.alert, (lead.alert, lead.alert))
    goal = budget.goal
    if lead.alert == SPENT_ALERT:
        return f"the error budget ({budget.period}) is spent", f"错误预算（{period_zh(budget.period)}）已用尽"
    length_s, bad = _fired(values, found, goal)
    within_en, within_zh = f"in {duration_en(length_s)}", f"{duration_zh(length_s)}内"
    if causes and causes[0].kind == "down":
        if bad >= NEARLY_ALL:
            return "cannot connect", "无法连接"
        return f"{share(bad)} cannot connect {within_en}", f"{within_zh} {share(bad)} 无法连接"
    if goal.kind == "correctness":
        return f"{share(bad)} of the vectors wrong {within_en}", f"{within_zh} {share(bad)} 的向量错误"
    if goal.kind == "availability" or found.failed >= NEARLY_ALL * found.windows[goal.name].bad > 0:
        return f"{share(bad)} failing {within_en}", f"{within_zh} {share(bad)} 失败"
    limit = show_ms(goal.threshold_ms or 0.0)
    value_ms = percentile(found.histogram, found.failed, goal.target).value_ms
    if math.isfinite(value_ms) and value_ms > (goal.threshold_ms or 0.0):
        slow = f"P{goal.target * 100:g} {show_ms(value_ms)} > {limit}"
        return slow, slow
    return f"{share(bad)} failing or above {limit} {within_en}", f"{within_zh} {share(bad)} 失败或超过 {limit}"


def worst_symptom(goal: Goal | None, worst: Worst | None) -> tuple[str, str]:
    """The worst moment, for an all-clear; empty where the incident was not one of requests."""
    if goal is None or worst is None or math.isnan(worst.latency_ms):
        return "", ""
    if goal.kind == "latency" and math.isfinite(worst.latency_ms):
        slow = f"P{goal.target * 100:g} {show_ms(worst.latency_ms)}"
        return f"at worst {slow}", f"最差 {slow}"
    if goal.kind == "correctness":
        return f"at worst {share(worst.failed)} of the vectors wrong", f"最差时 {share(worst.failed)} 的向量错误"
    return f"at worst {share(worst.failed)} failed", f"最差时 {share(worst.failed)} 失败"


def _fired(values: Mapping[str, float], found: Round, goal: Goal) -> tuple[float, float]:
    """A window that fired, and its share of bad requests: the long one, or the short one where that is far worse."""
    if "burn_long" not in values or math.isnan(values["burn_long"]):
        return found.window_s, found.windows[goal.name].bad_ratio
    long, short = values["burn_long"] * goal.budget, values["burn_short"] * goal.budget
    return (values["short_s"], short) if short > 1.5 * long else (values["long_s"], long)
