"""
How times, shares and names are written for people, in both languages. Chinese texts hold no English words.

Times are local, with the zone's distance from UTC: by the configured zone where there is one, else the machine's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from slo.units import show_duration
from slo.watch.budget.budget import BudgetPeriod
from slo.watch.model.notification import Severity, Status
from slo.watch.model.objectives import Goal

SEVERITY_ZH: Mapping[Severity, str] = {"critical": "严重", "page": "告警", "ticket": "工单", "info": "提示"}
STATUS_ZH: Mapping[Status, str] = {"firing": "触发", "resolved": "已恢复", "test": "测试"}
ALERTS_ZH: Mapping[str, str] = {
    "LatencyBudgetBurn": "延迟预算消耗过快",
    "AvailabilityBudgetBurn": "可用性预算消耗过快",
    "CorrectnessBudgetBurn": "正确性预算消耗过快",
    "P95AboveObjective": "延迟超过目标",
    "NoData": "没有测量数据",
    "ErrorBudgetSpent": "错误预算用尽",
    "HistoryNotWritable": "历史数据无法写入",
    "RemediationFailed": "自动恢复未奏效",
    "WatcherSilent": "监视进程失联",
    "AlertsUndelivered": "告警未送达",
    "ServerDown": "服务无法抓取",
}
SOURCES_ZH: Mapping[str, str] = {"passive": "用户", "prometheus": "用户", "probe": "探测", "service": "自有程序"}
SOURCES_EN: Mapping[str, str] = {"passive": "users", "prometheus": "users", "probe": "probes", "service": "own program"}
OUTCOMES_ZH: Mapping[str, str] = {
    "unreachable": "无法连接", "unsent": "未能发出", "refused": "被拒绝", "timeout": "超时",
    "server_fault": "服务内部错误",
    "bad_answer": "返回错误", "unauthorized": "密钥被拒", "bad_request": "请求无效", "cancelled": "客户端放弃",
    "gone": "客户端放弃", "5xx": "服务内部错误", "429": "被拒绝", "4xx": "请求无效", "abandoned": "客户端放弃",
}  # fmt: skip
_UNITS_ZH = (("天", 86400), ("小时", 3600), ("分钟", 60), ("秒", 1))
_PERIODS_ZH = {"hour": "本小时", "day": "今天", "week": "本周", "month": "本月", "quarter": "本季度"}
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def zone_of(name: str) -> tzinfo | None:
    """The zone that was configured; None, the machine's own, for the default UTC."""
    return None if name == "UTC" else ZoneInfo(name)


def moment_zh(at_s: float, zone: tzinfo | None) -> str:
    """`11月28日 09:35（UTC+8）`."""
    at = _local(at_s, zone)
    return f"{at.month}月{at.day}日 {at:%H:%M}（{_offset(at)}）"


def moment_en(at_s: float, zone: tzinfo | None) -> str:
    """`28 Nov 09:35 (UTC+8)`."""
    at = _local(at_s, zone)
    return f"{at.day} {_MONTHS[at.month - 1]} {at:%H:%M} ({_offset(at)})"


def hour(at_s: float, zone: tzinfo | None) -> str:
    """`09:35`, for what happened within the hour."""
    return f"{_local(at_s, zone):%H:%M}"


def second(at_s: float, zone: tzinfo | None) -> str:
    """`2026-11-28 09:35:07 UTC+8`, for a line of a log."""
    at = _local(at_s, zone)
    return f"{at:%Y-%m-%d %H:%M:%S} {_offset(at)}"


def duration_zh(seconds: float) -> str:
    """`2 小时 5 分钟`: the two largest units."""
    rest, parts = _rounded(seconds), []
    for unit, length_s in _UNITS_ZH:
        count, rest = divmod(rest, length_s)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 秒"


def duration_en(seconds: float) -> str:
    """`2h5m`: the two largest units."""
    return show_duration(_rounded(seconds))


def _rounded(seconds: float) -> int:
    """Whole seconds, minutes or hours, so that two units are left."""
    for length_s, unit_s in ((86400, 3600), (3600, 60)):
        if seconds >= length_s:
            return round(seconds / unit_s) * unit_s
    return round(max(0.0, seconds))


def share(ratio: float) -> str:
    """`97.5 %`; never 100 % of what is not all."""
    if math.isnan(ratio):
        return "–"
    shown = min(ratio * 100, 100.0)
    if shown == 100.0:
        return "100 %"
    return f"{min(shown, 99.9):.3g} %" if shown >= 99.5 else f"{shown:.2g} %" if shown < 10 else f"{shown:.0f} %"


def goal_zh(goal: Goal) -> str:
    """`P95 ≤ 150 ms`, `错误率 ≤ 0.2 %`."""
    if goal.kind == "latency":
        return str(goal)
    return f"{'错误率' if goal.kind == 'availability' else '错误向量'} ≤ {goal.budget * 100:g} %"


def period_zh(period: BudgetPeriod) -> str:
    """`30 天`, `本月`."""
    return _PERIODS_ZH[period.unit] if period.unit else duration_zh(period.length_s)


def _local(at_s: float, zone: tzinfo | None) -> datetime:
    return datetime.fromtimestamp(at_s, zone).astimezone(zone)


def _offset(at: datetime) -> str:
    """`UTC`, `UTC+8`, `UTC+5:30`."""
    minutes = round((at.utcoffset() or timedelta()).total_seconds() / 60)
    if minutes == 0:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'+' if minutes > 0 else '-'}{hours}{f':{rest:02}' if rest else ''}"
