"""
The likeliest causes of a breach, from what the server said about itself, and the first step that they call for; pure.

The minutes of the breach are compared with the usual ones (the day before, as far as it was good). Each finding has a
weight between 0 and 1, its share of the trouble as far as the figures tell, and says what it rests on. A cause is a
suspicion, never a proof, and the message says so; without figures there is none. The first step goes into the message
itself; the rest is in the alert's entry of the runbook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from slo.watch.alerting.words import OUTCOMES_ZH

CauseKind = Literal["down", "refused", "failing", "stage", "length", "replica", "steal", "cold", "cache"]

COLD_S = 300.0
_STAGE_ZH = {
    "queue": "排队", "wait": "等待引擎", "tokenise": "分词", "infer": "推理", "finish": "收尾", "call": "进程间调用",
    "serialise": "序列化", "gc_pause": "垃圾回收", "loop_lag": "事件循环延迟",
}  # fmt: skip
_CLASSES_ZH = {"short": "短", "medium": "中", "long": "长", "batch": "批量", "tiny": "极短"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Sums over some minutes. Absent figures are empty or None: then they suspect nobody.

    `classes` and `replicas` are good and total by name; `stages` seconds and number by name; `cpu_steal` and
    `cache_hit_ratio` are shares; `uptime_s` is the age of the model.
    """

    requests: int = 0
    classes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    replicas: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stages: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    cpu_steal: float | None = None
    cache_hit_ratio: float | None = None
    uptime_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One suspect. `weight` orders them."""

    kind: CauseKind
    weight: float
    text_en: str
    text_zh: str


def evidence_of(minutes: Iterable[Mapping[str, Any]]) -> Evidence:
    """The sum of stored minutes' evidence (see `Harvest.evidence`); shares are averaged where a minute has them."""
    requests, outcomes = 0, Counter[str]()
    pairs: dict[str, dict[str, list[float]]] = {"classes": {}, "replicas": {}, "stages": {}}
    shares: dict[str, list[float]] = {"cpu_steal": [], "cache_hit_ratio": []}
    uptime_s = None
    for minute in minutes:
        requests += int(minute.get("requests", 0))
        outcomes.update(minute.get("outcomes", {}))
        for name, found in pairs.items():
            for key, (first, second) in minute.get(name, {}).items():
                row = found.setdefault(key, [0, 0])
                row[0] += first
                row[1] += second
        for name, values in shares.items():
            if minute.get(name) is not None:
                values.append(float(minute[name]))
        uptime_s = minute.get("uptime_s", uptime_s)
    means = {name: sum(values) / len(values) if values else None for name, values in shares.items()}
    return Evidence(
        requests=requests,
        classes={key: (int(row[0]), int(row[1])) for key, row in pairs["classes"].items()},
        replicas={key: (int(row[0]), int(row[1])) for key, row in pairs["replicas"].items()},
        stages={key: (row[0], int(row[1])) for key, row in pairs["stages"].items()},
        outcomes=dict(outcomes),
        cpu_steal=means["cpu_steal"],
        cache_hit_ratio=means["cache_hit_ratio"],
        uptime_s=uptime_s,
    )


def causes(now: Evidence, usual: Evidence) -> list[Cause]:
    """Suspects, heaviest first."""
    found = [
        *_outcomes(now),
        *_stage(now, usual),
        *_part("length", now.classes, usual.classes),
        *_part("replica", now.replicas, usual.replicas),
        *_surroundings(now, usual),
    ]
    return sorted(found, key=lambda cause: -cause.weight)


def _outcomes(now: Evidence) -> list[Cause]:
    """Failures say more than any latency."""
    failed = sum(now.outcomes.values())
    total = max(now.requests, failed)
    if not failed or failed / total < 0.02:
        return []
    # Probes that an outage left unsent failed as those before them: they say how many, not why.
    named = {name: count for name, count in now.outcomes.items() if name != "unsent"} or dict(now.outcomes)
    worst, number = max(named.items(), key=lambda item: item[1])
    number += now.outcomes.get("unsent", 0) if worst != "unsent" else 0
    weight, share = max(failed / total, 0.9 if failed / total > 0.2 else 0.0), f"{number / total:.0%}"
    if worst in ("unreachable", "unsent"):
        return [Cause(kind="down", weight=weight, text_en=f"nobody answers at the address ({share} of requests)",
                      text_zh=f"服务无法连接（{share} 的请求）")]  # fmt: skip
    if worst == "refused":
        return [Cause(kind="refused", weight=weight, text_en=f"the server sheds load: {share} refused with 429",
                      text_zh=f"服务主动限流：{share} 的请求被拒绝（429）")]  # fmt: skip
    return [Cause(kind="failing", weight=weight, text_en=f"requests fail: {share} with {worst}",
                  text_zh=f"请求失败：{share} 为{OUTCOMES_ZH.get(worst, f'「{worst}」')}")]  # fmt: skip


def _stage(now: Evidence, usual: Evidence) -> list[Cause]:
    """The stage that added most time per request, compared with the usual."""
    if not now.requests or not usual.requests:
        return []
    excess_ms = {
        name: 1000 * (seconds / now.requests - usual.stages.get(name, (0.0, 0))[0] / usual.requests)
        for name, (seconds, _) in now.stages.items()
        if name != "upload"  # the client's own, and in no latency
    }
    added = sum(value for value in excess_ms.values() if value > 0)
    if added < 5:  # milliseconds per request; less explains no breach
        return []
    worst = max(excess_ms, key=lambda name: excess_ms[name])
    share = excess_ms[worst] / added
    name_zh = _STAGE_ZH.get(worst, f"「{worst}」")
    return [Cause(kind="stage", weight=0.9 * share,
                  text_en=f"stage {worst}: {excess_ms[worst]:+.0f} ms per request, {share:.0%} of the added time",
                  text_zh=f"{name_zh}阶段：每请求 {excess_ms[worst]:+.0f} ms，占增加时间的 {share:.0%}")]  # fmt: skip


def _part(
    kind: Literal["length", "replica"], parts: Mapping[str, tuple[int, int]], before: Mapping[str, tuple[int, int]]
) -> list[Cause]:
    """A class of texts or a replica with far more of the bad requests than of the traffic, unless it always has."""
    bad = {name: total - good for name, (good, total) in parts.items()}
    all_bad, all_total = sum(bad.values()), sum(total for _, total in parts.values())
    if len(parts) < 2 or all_bad < 5:
        return []
    worst = max(bad, key=lambda name: bad[name])
    share, traffic = bad[worst] / all_bad, parts[worst][1] / all_total
    good_before, total_before = before.get(worst, (0, 0))
    as_ever = total_before > 0 and bad[worst] / parts[worst][1] <= 2 * (1 - good_before / total_before)
    if share < 0.6 or share < 1.5 * traffic or as_ever:
        return []
    word_en, word_zh = ("texts of class", "长度类别") if kind == "length" else ("replica", "副本")
    name_zh = _CLASSES_ZH.get(worst, worst)
    return [Cause(kind=kind, weight=0.8 * share,
                  text_en=f"{word_en} {worst}: {share:.0%} of the bad requests, {traffic:.0%} of the traffic",
                  text_zh=f"{word_zh}「{name_zh}」：占坏请求的 {share:.0%}，仅占流量的 {traffic:.0%}")]  # fmt: skip


def _surroundings(now: Evidence, usual: Evidence) -> list[Cause]:
    found = []
    if now.cpu_steal is not None and now.cpu_steal >= 0.05 and now.cpu_steal >= 2 * (usual.cpu_steal or 0.0):
        found.append(Cause(kind="steal", weight=min(0.85, 3 * now.cpu_steal),
                           text_en=f"neighbours on the host take {now.cpu_steal:.0%} of the CPU time (steal)",
                           text_zh=f"宿主机邻居占用 {now.cpu_steal:.0%} 的处理器时间"))  # fmt: skip
    if now.uptime_s is not None and now.uptime_s < COLD_S:
        found.append(Cause(kind="cold", weight=0.7,
                           text_en=f"the model is cold: started {now.uptime_s:.0f} s ago",
                           text_zh=f"模型刚启动：{now.uptime_s:.0f} 秒前"))  # fmt: skip
    before, hits = usual.cache_hit_ratio, now.cache_hit_ratio
    if before is not None and hits is not None and before >= 0.1 and hits <= before / 4:
        found.append(Cause(kind="cache", weight=min(0.75, before),
                           text_en=f"the cache answers {hits:.0%} of requests instead of {before:.0%}",
                           text_zh=f"缓存命中率由 {before:.0%} 降至 {hits:.0%}"))  # fmt: skip
    return found


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
