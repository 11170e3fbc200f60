"""Where an alert's entry of the runbook is, and the first step that goes into the message itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from slo.watch.alerting.cause import CauseKind

Language = Literal["en", "zh"]

# By alert: what to do first, in words (English, Chinese), and the command.
_FIRST: Mapping[str, tuple[str, str, str]] = {
    "LatencyBudgetBurn": ("see where the time goes", "查看耗时分布", "slo top"),
    "AvailabilityBudgetBurn": ("see what fails", "查看失败原因", "slo check"),
    "CorrectnessBudgetBurn": ("compare with known vectors", "校验向量", "slo similarity 手机 电话"),
    "P95AboveObjective": ("measure by hand", "手动测量", "slo check"),
    "NoData": ("is anything running?", "确认服务是否在运行", "make status"),
    "ErrorBudgetSpent": ("see what spent it", "查看预算去向", "slo budget"),
    "HistoryNotWritable": ("look at the disk", "检查磁盘", "df -h .slo"),
    "RemediationFailed": ("see what was tried", "查看已执行的操作", "slo budget --actions"),
    "AlertsUndelivered": ("test every channel", "测试各告警通道", "slo alert test"),
    "WatcherSilent": ("start the watcher", "启动监视进程", "slo watch"),
    "ServerDown": ("start the server, this is safe at any time", "启动服务（可重复执行）", "make launch"),
}
# A cause known better than the alert: its step goes first.
_BY_CAUSE: Mapping[CauseKind, tuple[str, str, str]] = {
    "down": ("start the server, this is safe at any time", "启动服务（可重复执行）", "make launch"),
    "refused": ("see how much load it can hold", "查看容量上限", "slo capacity"),
    "steal": ("move to a quieter host, or lower the load", "更换宿主机或降低负载", "slo doctor"),
    "replica": ("see which replicas serve, take out the slow one", "查看各副本并移除慢副本", "slo control show"),
    "cache": ("is the cache on, and large enough?", "确认缓存已开启且容量足够", "slo validate"),
}


def step_for(alert: str, cause: CauseKind | None, language: Language) -> tuple[str, str]:
    """Words and command of the next step."""
    words_en, words_zh, command = (cause and _BY_CAUSE.get(cause)) or _FIRST[alert]
    return (words_zh if language == "zh" else words_en), command


def entry_url(runbook: str, alert: str, language: Language = "zh") -> str:
    """The alert's entry: its anchor is its name in lower case. The server's own page is asked for the language."""
    if not runbook:
        return ""
    asked = f"?lang={language}" if runbook.endswith("/slo/runbook") else ""
    return f"{runbook}{asked}#{alert.lower()}"


def covered() -> frozenset[str]:
    """Alerts that have a first step; a test holds them against the rules and the runbook."""
    return frozenset(_FIRST)
