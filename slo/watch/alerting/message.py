"""
What a person reads when woken: what users feel, since when, why it fired, the likely cause, what to do; in Chinese and
English.

Markdown of headings, lists, bold, code and links only, which all channels can show. Figures are rounded here and
nowhere else. The same facts in both languages, in the same order, so that a mixed team talks about one thing. An
all-clear says how long it lasted and how bad it was; the figures of the present are none of its business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo

from slo.units import show_ms
from slo.watch.alerting.diagnosis import Cause, Language, entry_url, step_for
from slo.watch.alerting.grouping import Notice, NoticeKind, tier
from slo.watch.alerting.round import Round, labels_of
from slo.watch.alerting.rules import Rule
from slo.watch.alerting.symptoms import Worst, symptom, worst_symptom
from slo.watch.alerting.words import (
    ALERTS_ZH,
    SEVERITY_ZH,
    SOURCES_EN,
    SOURCES_ZH,
    duration_en,
    duration_zh,
    goal_zh,
    hour,
    moment_en,
    moment_zh,
    period_zh,
    share,
)
from slo.watch.budget.budget import Budget
from slo.watch.history.event_log import HistoryEvent
from slo.watch.model.latency import Percentile, percentile
from slo.watch.model.notification import Notification, Status

_TOLD_EN: Mapping[NoticeKind, str] = {
    "firing": "", "escalated": ", got worse", "joined": ", more alerts", "repeat": ", still firing", "resolved": "",
}  # fmt: skip
_TOLD_ZH: Mapping[NoticeKind, str] = {
    "firing": "", "escalated": "·升级", "joined": "·新增", "repeat": "·仍在持续", "resolved": "",
}  # fmt: skip
_ACTIONS_ZH: Mapping[str, str] = {
    "relaunch_model": "重新加载模型", "restart_server": "重启服务", "add_replica": "增加副本",
    "shed": "改为拒绝会超时的请求", "clear_cache": "清空缓存",
}  # fmt: skip
_OUTCOMES_ZH = (
    ("started", "已开始"), ("undone", "已撤销"), ("dry run", "仅演练，未执行"), ("undo failed", "撤销失败"),
    ("failed", "失败"), ("better", "有效"), ("same", "无变化"), ("worse", "更差"), ("unknown", "效果未知"),
)  # fmt: skip
_BEFORE_AFTER = re.compile(r"bad requests (\d+/\d+) before, (\d+/\d+) after")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What the message says besides the round's own figures. `actions` are remedies already taken or proposed.

    `instance` is the host and port that tells this service from others, `page` the address of its live page. `worst`
    is known of an incident that is over. `zone` is None for this machine's own.
    """

    model: str
    endpoint: str
    instance: str = ""
    page: str = ""
    causes: Sequence[Cause] = ()
    changes: Sequence[HistoryEvent] = ()
    actions: Sequence[HistoryEvent] = ()
    runbook: str = ""
    labels: Mapping[str, str] | None = None
    worst: Worst | None = None
    zone: tzinfo | None = None


def compose(found: Round, notice: Notice, around: Circumstances, *, event_id: str) -> Notification:
    """The message for `notice`."""
    lead = notice.rules[0]
    status: Status = "resolved" if notice.kind == "resolved" else "firing"
    budget = found.budget_of(lead.goal) or (found.budgets[0] if found.budgets else None)
    goal = budget.goal if budget and lead.goal else None
    lasted_s = max(0.0, found.at_s - notice.started_s)
    if status == "resolved":
        worst_en, worst_zh = worst_symptom(goal, around.worst)
        headline_en = f"over after {duration_en(lasted_s)}{f', {worst_en}' if worst_en else ''}"
        headline_zh = f"持续 {duration_zh(lasted_s)}{f'，{worst_zh}' if worst_zh else ''}"
        mark_en, mark_zh = "[resolved]", "[已恢复]"
    else:
        headline_en, headline_zh = symptom(found, lead, budget, around.causes)
        mark_en = f"[{notice.severity}{_TOLD_EN[notice.kind]}]"
        mark_zh = f"[{SEVERITY_ZH[notice.severity]}{_TOLD_ZH[notice.kind]}]"
    host = f" · {around.instance}" if around.instance else ""
    labels = labels_of(lead, around.labels or {"model": around.model, "endpoint": around.endpoint})
    text = _over if status == "resolved" else _text
    return Notification(
        event_id=event_id,
        status=status,
        severity=notice.severity,
        title_en=f"{mark_en} {around.model} {headline_en}{host}",
        title_zh=f"{mark_zh} {around.model} {headline_zh}{host}",
        text_en=text(found, notice, around, budget, "en", headline_en),
        text_zh=text(found, notice, around, budget, "zh", headline_zh),
        labels=labels,
        annotations=_annotations(found, notice, around, budget, headline_en),
        starts_at_s=notice.started_s,
        ends_at_s=found.at_s if status == "resolved" else None,
        group_key="/".join((*(value for _, value in sorted((around.labels or {}).items())), tier(notice.severity))),
        runbook_url=entry_url(around.runbook, lead.alert),
        generator_url=around.page or f"{around.endpoint.rstrip('/')}/slo/",
    )


def _text(
    found: Round, notice: Notice, around: Circumstances, budget: Budget | None, language: Language, headline: str
) -> str:
    """While it fires."""
    say = _chooser(language)
    lead, lasted_s = notice.rules[0], max(0.0, found.at_s - notice.started_s)
    lines = [f"### {around.model} · {around.instance or around.endpoint}", ""]
    lines += [say(f"- **Users feel** {headline}", f"- **现象** {headline}")]
    lasted_en, lasted_zh = (
        (f", for {duration_en(lasted_s)}", f"，已持续 {duration_zh(lasted_s)}") if lasted_s else ("", "")
    )
    lines += [say(
        f"- **Since** {moment_en(notice.started_s, around.zone)}{lasted_en}",
        f"- **开始于** {moment_zh(notice.started_s, around.zone)}{lasted_zh}",
    )]  # fmt: skip
    lines += _fired(found, lead, budget, say)
    lines += _latency(found, budget, say)
    lines += _left(found, lead, budget, say)
    names_en = ", ".join(f"{rule.alert} ({rule.severity}{_flapping(rule, found, say)})" for rule in notice.rules)
    names_zh = "、".join(
        f"{ALERTS_ZH[rule.alert]}（{SEVERITY_ZH[rule.severity]}{_flapping(rule, found, say)}）" for rule in notice.rules
    )
    lines += [say(f"- **Alerts** {names_en}", f"- **告警** {names_zh}")]
    cause = around.causes[0] if around.causes else None
    lines += [say(
        f"- **Likely cause** {cause.text_en if cause else 'not found; the figures show nothing unusual'}",
        f"- **可能原因** {cause.text_zh if cause else '未找到，各项指标无异常'}",
    )]  # fmt: skip
    lines += _background(around, say)
    words, command = step_for(lead.alert, cause.kind if cause else None, language)
    lines += ["", say(f"**Next** {words}: `{command}`", f"**下一步** {words}：`{command}`")]
    return "\n".join([*lines, *_links(around, lead, say, language)])


def _over(
    found: Round, notice: Notice, around: Circumstances, budget: Budget | None, language: Language, headline: str
) -> str:
    """When it is over."""
    say, lead = _chooser(language), notice.rules[0]
    lines = [f"### {around.model} · {around.instance or around.endpoint}", ""]
    lines += [say(f"- **Incident** {headline}", f"- **本次故障** {headline}")]
    lines += [say(
        f"- **From** {moment_en(notice.started_s, around.zone)} to {hour(found.at_s, around.zone)}",
        f"- **起止** {moment_zh(notice.started_s, around.zone)}至 {hour(found.at_s, around.zone)}",
    )]  # fmt: skip
    names_en = ", ".join(f"{rule.alert} ({rule.severity})" for rule in notice.rules)
    names_zh = "、".join(f"{ALERTS_ZH[rule.alert]}（{SEVERITY_ZH[rule.severity]}）" for rule in notice.rules)
    lines += [say(f"- **Alerts** {names_en}", f"- **告警** {names_zh}")]
    if budget is not None:
        left_zh = f"{period_zh(budget.period)}，剩余 {share(max(0.0, budget.remaining))}"
        left_en = f"{share(max(0.0, budget.remaining))} of {budget.period}"
        lines += [say(f"- **Budget left** {left_en}", f"- **错误预算** {left_zh}")]
    lines += _background(around, say)
    return "\n".join([*lines, *_links(around, lead, say, language)])


Say = Callable[[str, str], str]


def _chooser(language: Language) -> Say:
    return (lambda _, zh: zh) if language == "zh" else (lambda en, _: en)


def _fired(found: Round, lead: Rule, budget: Budget | None, say: Say) -> list[str]:
    """The windows and burn rates that fired, beside what it takes."""
    values = found.alerts[lead.key].values
    if budget is None or "burn_long" not in values:
        return []
    long_s, short_s, factor = values["long_s"], values["short_s"], values["factor"]
    long, short = _times(values["burn_long"]), _times(values["burn_short"])
    goal = budget.goal
    return [say(
        f"- **Fired** burn {long} over {duration_en(long_s)} and {short} over {duration_en(short_s)}, from {factor:g}×"
        f" on ({goal}: {share(goal.budget)} may be bad)",
        f"- **触发条件** 消耗速率 {duration_zh(long_s)}内 {long}、{duration_zh(short_s)}内 {short}，阈值 {factor:g}×"
        f"（承诺 {goal_zh(goal)}，允许 {share(goal.budget)} 不合格）",
    )]  # fmt: skip


def _latency(found: Round, budget: Budget | None, say: Say) -> list[str]:
    """The percentile of the last minutes and where it comes from."""
    target = budget.goal.target if budget and budget.goal.kind == "latency" else 0.95
    p95, name = percentile(found.histogram, found.failed, target), f"P{target * 100:g}"
    sources_en = ", ".join(f"{SOURCES_EN.get(s, s)} {n}" for s, n in sorted(found.sources.items()) if n)
    sources_zh = "、".join(f"{SOURCES_ZH.get(s, s)} {n}" for s, n in sorted(found.sources.items()) if n)
    window_en, window_zh = duration_en(found.window_s), duration_zh(found.window_s)
    if math.isnan(p95.value_ms):
        return [say(f"- **Requests** none in the last {window_en}", f"- **请求** 最近 {window_zh}没有")]
    total = found.histogram.total + found.failed
    failed = share(found.failed / total)
    return [say(
        f"- **{name}** {_value(p95, 'above all that was answered')}; {failed} failed (last {window_en}: {sources_en})",
        f"- **{name}** {_value(p95, '高于所有已答请求')}；失败 {failed}（最近 {window_zh}：{sources_zh}）",
    )]  # fmt: skip


def _value(p95: Percentile, beyond: str) -> str:
    if math.isinf(p95.value_ms):
        return beyond
    high = "∞" if math.isinf(p95.high_ms) else show_ms(p95.high_ms)
    return f"{show_ms(p95.value_ms)} ({show_ms(p95.low_ms)} – {high})"


def _left(found: Round, lead: Rule, budget: Budget | None, say: Say) -> list[str]:
    """What is left of the budget, and how long it lasts at the burn rate that fired."""
    if budget is None:
        return []
    burn = found.alerts[lead.key].values.get("burn_short", budget.burn)
    if budget.remaining <= 0:
        lasts_en, lasts_zh = "spent", "已用尽"
    elif math.isnan(burn) or burn <= 1:
        lasts_en, lasts_zh = "lasts at this rate", "按此速率不会用尽"
    else:
        left_s = budget.remaining * budget.period.length_s / burn
        lasts_en, lasts_zh = f"gone in {duration_en(left_s)} at this rate", f"按此速率 {duration_zh(left_s)}后用尽"
    partly = budget.observed_s < budget.period.length_s
    seen_en = f", seen for {duration_en(budget.observed_s)}" if partly else ""
    seen_zh = f"，已观测 {duration_zh(budget.observed_s)}" if partly else ""
    left = share(max(0.0, budget.remaining))
    return [say(
        f"- **Budget left** {left} of {budget.period}{seen_en}; {lasts_en}; {budget.may_still_fail_today} more requests"
        " may fail today",
        f"- **错误预算** {period_zh(budget.period)}，剩余 {left}{seen_zh}；{lasts_zh}；今天还可失败"
        f" {budget.may_still_fail_today} 个请求",
    )]  # fmt: skip


def _background(around: Circumstances, say: Say) -> list[str]:
    changes = [f"{hour(event.at_s, around.zone)} {_quoted(event, say)}" for event in around.changes[-5:]]
    known_en, known_zh = "; ".join(changes) or "nothing known", "；".join(changes) or "无记录"
    lines = [say(f"- **Changed in the last hour** {known_en}", f"- **最近一小时的变更** {known_zh}")]
    for event in around.actions[-3:]:
        at, done_en, done_zh = hour(event.at_s, around.zone), f"{event.subject}: {event.text}", _done_zh(event)
        lines += [say(f"- **Automatic action** {at} {done_en}", f"- **自动处置** {at} {done_zh}")]
    return lines


def _quoted(event: HistoryEvent, say: Say) -> str:
    """What a person wrote, in whatever language, as theirs."""
    text = f"{event.subject}{f': {event.text}' if event.text else ''}"
    return say(f"“{text}”", f"「{text}」")


def _done_zh(event: HistoryEvent) -> str:
    """`重新加载模型：有效，不合格请求由 60/60 变为 0/60`."""
    name = _ACTIONS_ZH.get(event.subject, event.subject)
    outcome = next((zh for en, zh in _OUTCOMES_ZH if event.text.startswith(en)), "已记录")
    counts = _BEFORE_AFTER.search(event.text)
    told = f"，不合格请求由 {counts.group(1)} 变为 {counts.group(2)}" if counts else ""
    return f"{name}：{outcome}{told}"


def _links(around: Circumstances, lead: Rule, say: Say, language: Language) -> list[str]:
    """One tap to the entry of the runbook, one to the live page."""
    entry = entry_url(around.runbook, lead.alert, language)
    links = [f"[{say('Runbook', '处置手册')}]({entry})"] if entry.startswith("http") else []
    links += [f"[{say('Live page', '实时页面')}]({around.page})"] if around.page.startswith("http") else []
    return ["", " · ".join(links)] if links else []


def _annotations(
    found: Round, notice: Notice, around: Circumstances, budget: Budget | None, headline: str
) -> dict[str, str]:
    """For machines: the summary, and the figures as numbers."""
    values = found.alerts[notice.rules[0].key].values
    told = {"summary": headline, "told_because": notice.kind, "alerts": ", ".join(rule.key for rule in notice.rules)}
    told |= {name: f"{values[name]:.4g}" for name in ("burn_long", "burn_short") if name in values}
    if budget is not None:
        told["budget_remaining"] = f"{budget.remaining:.4f}"
    if around.causes:
        told["cause"] = around.causes[0].text_en
    return told


def _flapping(rule: Rule, found: Round, say: Say) -> str:
    """How often it came back within the last hour."""
    relapses = len(found.alerts[rule.key].relapses)
    return say(f", {relapses}× flapping", f"，反复 {relapses} 次") if relapses else ""


def _times(burn: float) -> str:
    return "–" if math.isnan(burn) else f"{burn:.0f}×" if burn >= 100 else f"{burn:.3g}×"
