"""
What a person reads when woken: how bad, since when, why probably, what changed, what to do. Chinese and English.

Markdown of headings, lists, bold and code only, which all channels can show. Figures are rounded here and nowhere
else. The same facts in both languages, in the same order, so that a mixed team talks about one thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slo.clock import iso
from slo.units import show_duration, show_ms
from slo.watch.alerting.cause import Cause
from slo.watch.alerting.grouping import Notice, Told, tier
from slo.watch.alerting.notification import Notification, Severity, Status
from slo.watch.alerting.rules import Rule
from slo.watch.alerting.runbook import entry_url, step_for
from slo.watch.budget.budget import Budget
from slo.watch.history.chronicle import Event
from slo.watch.round import Round, labels_of
from slo.watch.sli.latency import Percentile, percentile

_SEVERITY_ZH: Mapping[Severity, str] = {"critical": "严重", "page": "告警", "ticket": "工单", "info": "提示"}
_KIND_EN: Mapping[Told, str] = {
    "firing": "firing", "escalated": "got worse", "joined": "more alerts", "repeat": "still firing",
    "resolved": "resolved",
}  # fmt: skip
_KIND_ZH: Mapping[Told, str] = {
    "firing": "触发", "escalated": "升级", "joined": "新增", "repeat": "仍在触发", "resolved": "已恢复",
}  # fmt: skip
_HEADLINES: Mapping[str, tuple[str, str]] = {
    "NoData": ("nothing is measured", "没有测量数据"),
    "HistoryNotWritable": ("the history cannot be written", "历史数据无法写入"),
    "RemediationFailed": ("an automatic action did not help", "自动恢复未奏效"),
}


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the message says besides the round's own figures. `actions` are remedies already taken or proposed."""

    model: str
    endpoint: str
    causes: Sequence[Cause] = ()
    changes: Sequence[Event] = ()
    actions: Sequence[Event] = ()
    runbook: str = ""
    labels: Mapping[str, str] | None = None


def compose(found: Round, notice: Notice, around: Circumstances, *, event_id: str) -> Notification:
    """The message for `notice`."""
    lead = notice.rules[0]
    status: Status = "resolved" if notice.kind == "resolved" else "firing"
    budget = found.budget_of(lead.goal) or (found.budgets[0] if found.budgets else None)
    target = budget.goal.target if budget else 0.95
    p95 = percentile(found.histogram, found.failed, target if lead.goal == "latency" else 0.95)
    headline_en, headline_zh = _headline(lead, p95, budget)
    labels = labels_of(lead, around.labels or {"model": around.model, "endpoint": around.endpoint})
    return Notification(
        event_id=event_id,
        status=status,
        severity=notice.severity,
        title_en=f"[{notice.severity}] {around.model} {_KIND_EN[notice.kind]}: {headline_en}",
        title_zh=f"[{_SEVERITY_ZH[notice.severity]}] {around.model} {_KIND_ZH[notice.kind]}：{headline_zh}",
        text_en=_text_en(found, notice, around, p95, budget),
        text_zh=_text_zh(found, notice, around, p95, budget),
        labels=labels,
        annotations=_annotations(notice, around, p95, budget, headline_en),
        starts_at_s=notice.started_s,
        ends_at_s=found.at_s if status == "resolved" else None,
        group_key="/".join((*(value for _, value in sorted((around.labels or {}).items())), tier(notice.severity))),
        runbook_url=entry_url(around.runbook, lead.alert),
        generator_url=f"{around.endpoint.rstrip('/')}/slo/",
    )


def _headline(lead: Rule, p95: Percentile, budget: Budget | None) -> tuple[str, str]:
    if lead.alert in _HEADLINES:
        return _HEADLINES[lead.alert]
    if budget is None:
        return lead.alert, lead.alert
    if lead.alert == "ErrorBudgetSpent":
        return f"the error budget of {budget.goal} is spent", f"{budget.goal} 的错误预算已用尽"
    if budget.goal.kind == "latency":
        return f"P95 {_ms(p95.value_ms)} ({budget.goal})", f"P95 {_ms(p95.value_ms)}（{budget.goal}）"
    share = f"{budget.recent.bad_ratio:.2%}"
    return f"{share} bad in the last hour ({budget.goal})", f"最近一小时坏请求 {share}（{budget.goal}）"


def _text_en(found: Round, notice: Notice, around: Circumstances, p95: Percentile, budget: Budget | None) -> str:
    lines = [f"### {around.model} at {around.endpoint}", ""]
    lines += [f"- **Since** {iso(notice.started_s)} ({show_duration(max(0.0, found.at_s - notice.started_s))})"]
    lines += [f"- **P95** {_ms(p95.value_ms)}, between {_ms(p95.low_ms)} and {_ms(p95.high_ms)}, last five minutes"]
    lines += [f"- **Requests** {_sources(found)}"]
    if budget is not None:
        seen = f" (seen for {show_duration(budget.observed_s)})" if budget.observed_s < budget.period.length_s else ""
        lines += [
            f"- **Burn rate** {_times(budget.burn)} over the last hour",
            f"- **Budget left** {budget.remaining:.1%} of {budget.period}{seen}; {_exhausted_en(budget)}; "
            f"{budget.may_still_fail_today} more requests may fail today",
            f"- **Attainment** {_ratio(budget.attainment)} of requests, {_ratio(budget.slices.attainment)} of windows",
        ]
    lines += [f"- **Alerts** {', '.join(_named(rule, found) for rule in notice.rules)}"]
    if notice.kind != "resolved":
        cause = around.causes[0].text_en if around.causes else "not found; the figures show nothing unusual"
        lines += [f"- **Likely cause** {cause}"]
    changes = "; ".join(_change(event) for event in around.changes[-5:])
    lines += [f"- **Changed in the last hour** {changes or 'nothing known'}"]
    lines += [f"- **Automatic action** {_change(event)}" for event in around.actions[-3:]]
    if notice.kind != "resolved":
        words, command = step_for(notice.rules[0].alert, around.causes[0].kind if around.causes else None, "en")
        lines += ["", f"**Next** {words}: `{command}`"]
    return "\n".join(lines)


def _text_zh(found: Round, notice: Notice, around: Circumstances, p95: Percentile, budget: Budget | None) -> str:
    lines = [f"### {around.model} · {around.endpoint}", ""]
    lines += [f"- **开始于** {iso(notice.started_s)}（持续 {show_duration(max(0.0, found.at_s - notice.started_s))}）"]
    lines += [f"- **P95** {_ms(p95.value_ms)}，区间 {_ms(p95.low_ms)} – {_ms(p95.high_ms)}，最近五分钟"]
    lines += [f"- **请求数** {_sources(found)}"]
    if budget is not None:
        seen = f"（已观测 {show_duration(budget.observed_s)}）" if budget.observed_s < budget.period.length_s else ""
        lines += [
            f"- **消耗速率** 最近一小时 {_times(budget.burn)}",
            f"- **剩余预算** {budget.period} 的 {budget.remaining:.1%}{seen}；{_exhausted_zh(budget)}；"
            f"今天还可失败 {budget.may_still_fail_today} 个请求",
            f"- **达成率** 按请求 {_ratio(budget.attainment)}，按窗口 {_ratio(budget.slices.attainment)}",
        ]
    lines += [f"- **告警** {'、'.join(_named(rule, found) for rule in notice.rules)}"]
    if notice.kind != "resolved":
        lines += [f"- **可能原因** {around.causes[0].text_zh if around.causes else '未找到，各项指标无异常'}"]
    changes = "；".join(_change(event) for event in around.changes[-5:])
    lines += [f"- **最近一小时的变更** {changes or '无记录'}"]
    lines += [f"- **自动处置** {_change(event)}" for event in around.actions[-3:]]
    if notice.kind != "resolved":
        words, command = step_for(notice.rules[0].alert, around.causes[0].kind if around.causes else None, "zh")
        lines += ["", f"**下一步** {words}：`{command}`"]
    return "\n".join(lines)


def _annotations(
    notice: Notice, around: Circumstances, p95: Percentile, budget: Budget | None, headline: str
) -> dict[str, str]:
    found = {
        "summary": headline,
        "told_because": notice.kind,
        "alerts": ", ".join(rule.key for rule in notice.rules),
        "p95_ms": f"{p95.value_ms:.1f}",
    }
    if budget is not None:
        found["burn_rate"] = f"{budget.burn:.2f}"
        found["budget_remaining"] = f"{budget.remaining:.4f}"
    if around.causes:
        found["cause"] = around.causes[0].text_en
    return found


def _named(rule: Rule, found: Round) -> str:
    """`LatencyBudgetBurn (critical, came back 2 times in the last hour)`."""
    relapses = len(found.alerts[rule.key].relapses)
    flapping = f", {relapses}× flapping" if relapses else ""
    return f"{rule.alert} ({rule.severity}{flapping})"


def _sources(found: Round) -> str:
    """`312 passive + 60 probe`: where the figures come from is never left out."""
    return " + ".join(f"{count} {source}" for source, count in sorted(found.sources.items()) if count) or "0"


def _change(event: Event) -> str:
    return f"{iso(event.at_s)[11:16]}Z {event.subject}{f': {event.text}' if event.text else ''}"


def _exhausted_en(budget: Budget) -> str:
    left_s = budget.exhaustion_s
    if left_s == 0:
        return "spent"
    return "lasts at this rate" if math.isinf(left_s) else f"gone in {show_duration(left_s)} at this rate"


def _exhausted_zh(budget: Budget) -> str:
    left_s = budget.exhaustion_s
    if left_s == 0:
        return "已用尽"
    return "按此速率不会用尽" if math.isinf(left_s) else f"按此速率 {show_duration(left_s)} 后用尽"


def _ms(value_ms: float) -> str:
    return "∞ (failed)" if math.isinf(value_ms) else show_ms(value_ms)


def _times(burn: float) -> str:
    return "–" if math.isnan(burn) else f"{burn:.1f}×"


def _ratio(value: float) -> str:
    # Down, never up: 99.996 % must not read as 100 %.
    return "–" if math.isnan(value) else f"{math.floor(value * 10000 + 1e-9) / 100:.2f} %"
