"""Every word of a report, Chinese and English side by side. An unknown word is an error: reports are checked whole."""

from __future__ import annotations

from typing import Literal, get_args

from slo.sentences import in_chinese

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

WORDS: dict[str, tuple[str, str]] = {
    "title": ("延迟报告", "Latency report"),
    "kind.baseline": ("基线测试", "Baseline"),
    "kind.load": ("开环负载", "Open-loop load"),
    "kind.stress": ("压力测试", "Stress test"),
    "kind.capacity": ("容量搜索", "Capacity search"),
    "kind.turns": ("轮换对比", "Measured in turns"),
    "kind.plan": ("容量规划", "Capacity plan"),
    "kind.tune": ("调优", "Tuning"),
    "verdict.met": ("达标", "Met"),
    "verdict.missed": ("未达标", "Missed"),
    "verdict.unproven": ("证据不足", "Unproven"),
    "verdict.void": ("作废", "Void"),
    "says.met": ("{objective} 达标，置信度 {confidence}", "{objective} is met, proven at {confidence} confidence"),
    "says.missed": (
        "{objective} 未达标，置信度 {confidence}",
        "{objective} is missed, proven at {confidence} confidence",
    ),
    "says.wrong": ("{objective} 未达标：有错误的应答", "{objective} is missed: there were wrong answers"),
    "says.unproven": ("{objective} 尚不能下结论", "{objective} is neither proven nor refuted"),
    "says.void": ("本次测量作废：{reasons}", "The measurement is void: {reasons}"),
    "stand_in": (
        "占位权重：结构与计算量相同，延迟真实，语义不真实。",
        "Stand-in weights: same architecture and cost. Latencies are true, meanings are not.",
    ),
    "interrupted": ("被用户中断，仅含已完成部分。", "Stopped by the user; what was done until then is here."),
    "summary": ("结果", "Result"),
    "class": ("类别", "Class"),
    "class.short": ("短文本", "short"),
    "class.medium": ("中等文本", "medium"),
    "class.long": ("长文本", "long"),
    "class.overall": ("总计", "overall"),
    "class.answered": ("其中有应答的", "of these, answered"),
    "failures": ("失败原因", "Failures"),
    "failures.status": ("HTTP 状态", "HTTP status"),
    "failures.kind": ("种类", "kind"),
    "failures.code": ("错误码", "error code"),
    "failures.example": ("示例（不含文本）", "example (without texts)"),
    "class.cached": ("缓存应答（不计入结论）", "from cache (not judged)"),
    "service": ("处理耗时 P95", "service P95"),
    "service.note": (
        "P95 等从应发时刻算起，以此下结论；处理耗时从实际发出算起，仅供对照。",
        "Percentiles run from the due moment and decide; the service time runs from sending, for comparison.",
    ),
    "ladder": ("并发阶梯（闭环）", "Concurrency ladder (closed loop)"),
    "n": ("样本数", "n"),
    "success": ("成功率", "success"),
    "good": ("限内占比", "within limit"),
    "p95": ("P95", "P95"),
    "interval": ("95 % 区间", "95 % interval"),
    "verdict": ("结论", "verdict"),
    "quantity": ("项目", "Quantity"),
    "value": ("值", "Value"),
    "failed": ("失败", "failed"),
    "void": ("作废", "void"),
    "soak": ("压力测试结果", "Stress test result"),
    "soak.duration": ("持续时间", "duration"),
    "soak.requests": ("请求数", "requests"),
    "soak.sessions": ("分几次完成（有中断）", "sessions, with interruptions between"),
    "soak.answered": ("有应答者的 P95", "P95 of what was answered"),
    "soak.kind": ("其中：{name}", "of these: {name}"),
    "soak.worst": ("最差时段 P95", "worst slice's P95"),
    "soak.attainment": ("SLO 达成率（请求）", "SLO attainment (requests)"),
    "soak.slices": ("SLO 达成率（时段）", "SLO attainment (slices)"),
    "soak.clients": ("并发请求数", "concurrent requests"),
    "soak.errors": ("错误率", "error rate"),
    "soak.memory": ("服务器内存增长", "server memory growth"),
    "capacity": ("容量", "Capacity"),
    "capacity.rate": ("已证实的速率", "proven rate"),
    "capacity.best": ("估计的最高速率", "highest rate, estimated"),
    "capacity.recommended": ("建议日常上限（留 20 %）", "plan for (20 % headroom)"),
    "capacity.unproven": ("（尚未证实）", " (not proven)"),
    "capacity.callers": ("可支撑的闭环并发", "closed-loop callers that hold"),
    "probes": ("各次探测：{name}", "Probes: {name}"),
    "probes.purpose": ("目的", "purpose"),
    "probes.rate": ("速率（次/秒）", "rate (/s)"),
    "probes.requests": ("请求数", "requests"),
    "purpose.search": ("搜索", "search"),
    "purpose.confirm": ("证实", "confirm"),
    "purpose.ladder": ("并发阶梯", "ladder"),
    "per_second": ("{rate} 次/秒", "{rate}/s"),
    "compare": ("前后对比", "Before and after"),
    "compare.before": ("之前 P95", "P95 before"),
    "compare.after": ("之后 P95", "P95 after"),
    "compare.gain": ("改善", "improvement"),
    "compare.ratio": ("之后/之前（95 %）", "after/before (95 %)"),
    "compare.difference": ("差异", "difference"),
    "compare.faster": ("显著变快", "faster"),
    "compare.slower": ("显著变慢", "slower"),
    "compare.none": ("无显著差异", "no significant difference"),
    "compare.few": ("样本太少", "too few samples"),
    "distribution": ("延迟分布", "Latency distribution"),
    "over_time": ("P95 随时间的变化", "P95 over time"),
    "good_over_time": ("限内占比随时间的变化", "Share within the limit over time"),
    "gap": ("断开处：超过 5 % 的请求失败，没有 P95", "a gap: over 5 % of the requests failed there, so it has no P95"),
    "at_edge": ("画在上缘者：超过 5 % 的请求失败，没有 P95", "at the upper edge: over 5 % failed, so it has no P95"),
    "at_least": ("至少 {share} %", "at least {share} %"),
    "axis.good": ("限内占比（%）", "within the limit (%)"),
    "verdict.done": ("规划", "Plan"),
    "says.plan": (
        "{wish} 需要 {replicas} 个副本、{cores} 核（模型预测，{objective}）",
        "{wish} needs {replicas} replicas, {cores} cores (predicted by a model, {objective})",
    ),
    "says.capacity": ("{rate} 次/秒，已证实满足 {objective}，置信度 {confidence}",
                      "{rate}/s, proven to meet {objective} at {confidence} confidence"),
    "plan": ("规划结果", "Plan"),
    "plan.callers": ("{number} 个闭环并发", "{number} closed-loop callers"),
    "plan.wish": ("需求", "wish"),
    "plan.replicas": ("副本", "replicas"),
    "plan.cores": ("核数", "cores"),
    "plan.p95": ("预测 {percentile}", "predicted {percentile}"),
    "plan.capacity": ("单副本容量", "capacity of one replica"),
    "plan.unbatched": ("不合批时（M/D/1）", "the same without batching (M/D/1)"),
    "plan.cost": ("一次推理的耗时（空闲）", "a pass costs, alone"),
    "plan.per_token": ("{fixed} + 每词元 {token}", "{fixed} + {token} per token"),
    "plan.slowdown": ("负载下变慢", "slower under load"),
    "plan.held": ("本机可承载的闭环并发（文本不重复）", "callers held here, all texts unique"),
    "plan.held_by": ("{number} 个（{cores} 核）", "{number} on {cores} cores"),
    "plan.repeated": ("本机承载 {number} 个闭环并发所需的缓存命中率", "{number} callers are held here with"),
    "plan.hits": ("{ratio}（{percentile}：全部 {all_of}，仅计算的 {computed}）",
                  "{ratio} from the cache ({percentile} {all_of}, the computed ones alone {computed})"),
    "plan.check": ("核对：{rate} 次/秒时的 {percentile}", "check: {percentile} at {rate}/s"),
    "plan.checked": ("预测 {predicted}，实测 {measured}", "predicted {predicted}, measured {measured}"),
    "soak.growing": ("在增长", "growing"),
    "soak.small": ("全程不到 1 %", "less than 1 % over the run"),
    "soak.level": ("未证实有增长", "no growth proven"),
    "curve": ("吞吐–延迟曲线", "Throughput and latency"),
    "stages": ("服务器内部耗时", "Where the time goes in the server"),
    "before_after": ("各类别 P95：之前与之后", "P95 by class, before and after"),
    "axis.latency": ("延迟（毫秒）", "latency (ms)"),
    "axis.p95": ("P95（毫秒）", "P95 (ms)"),
    "axis.share": ("请求占比（%）", "share of requests (%)"),
    "axis.seconds": ("时间（秒）", "time (s)"),
    "axis.minutes": ("时间（分钟）", "time (min)"),
    "axis.rate": ("到达速率（次/秒）", "arrival rate (/s)"),
    "axis.class": ("文本类别", "text class"),
    "axis.stage": ("阶段", "stage"),
    "axis.mean": ("平均（毫秒）", "mean (ms)"),
    "limit": ("上限 {ms} ms", "limit {ms} ms"),
    "before": ("之前", "before"),
    "after": ("之后", "after"),
    "beyond": ("超出图幅的并入最后一格", "what lies beyond is in the last bar"),
    "probe.met": ("达标", "met"),
    "probe.missed": ("未达标", "missed"),
    "probe.unproven": ("证据不足", "unproven"),
    "search.mix": ("混合文本", "mix"),
    "environment": ("环境", "Environment"),
    "env.when": ("开始时间", "started"),
    "env.endpoint": ("地址", "endpoint"),
    "env.model": ("模型", "model"),
    "env.engine": ("引擎", "engine"),
    "env.precision": ("精度", "precision"),
    "env.replicas": ("副本", "replicas"),
    "env.cpu": ("处理器", "processor"),
    "env.cores": ("核数", "cores"),
    "env.kernel": ("内核", "kernel"),
    "env.python": ("Python", "Python"),
    "env.load": ("开始时负载", "load at the start"),
    "env.record": ("记录", "record"),
    "env.hash": ("记录的 SHA-256", "SHA-256 of the record"),
    "env.tool": ("工具", "tool"),
    "env.steal": ("被其他虚拟机占用的 CPU", "CPU stolen by neighbours"),
    "env.memory": ("服务器内存（PSS，共享页只计一次）", "server memory (PSS: shared pages count once)"),
    "env.resident": ("服务器驻留内存峰值（RSS 之和）", "server memory, peak of summed RSS"),
    "settings": ("设置", "Settings"),
    "check": ("测量自检", "Self-check of the measurement"),
    "check.lag": ("发送延迟 P99", "send lag, P99"),
    "check.cpu": ("发压端 CPU", "generator's CPU"),
    "check.little": ("Little 定律偏差", "gap in Little's law"),
    "check.clock": ("时钟漂移", "clock drift"),
    "check.steal": ("被宿主机上他人占用的 CPU", "CPU taken by others on the host"),
    "check.answers": ("核对过的应答", "answers compared"),
    "check.wrong": ("{compared} 条，错误 {wrong} 条", "{compared}, {wrong} wrong"),
    "limit_of": ("（允许 {limit}）", " (allowed {limit})"),
    "notes": ("说明", "Notes"),
    "repeat": ("重新测量", "To repeat it"),
    "rule": (
        "延迟从请求应当发出的时刻算起；失败、拒绝、超时都算超限；百分位用最近秩，不取整再比较。",
        "Latency runs from the moment a request was due; failures, refusals and timeouts count as late; percentiles "
        "are nearest rank, compared unrounded.",
    ),
    "rule.sent": (
        "延迟从发出请求的时刻算起（单客户端或闭环）；失败、拒绝、超时都算超限；百分位用最近秩，不取整再比较。",
        "Latency runs from the moment a request was sent (one client, or closed loop); failures, refusals and timeouts "
        "count as late; percentiles are nearest rank, compared unrounded.",
    ),
    "made": ("由 {tool} 仅根据运行记录生成", "made by {tool} from run records alone"),
    "made.history": ("由 {tool} 根据监视历史生成", "made by {tool} from the watcher's history"),
    "axis.days": ("天", "days"),
    "period.title": ("SLO 报告", "SLO report"),
    "period.unknown": ("无法判断的时段", "slices nobody can judge"),
    "period.late": ("超限或失败", "late or failed"),
    "period.budget": ("错误预算剩余", "error budget left"),
    "period.excused": ("维护期间的请求（不计）", "requests during maintenance (left out)"),
    "period.incidents": ("告警", "Incidents"),
    "period.alert": ("告警", "alert"),
    "period.began": ("开始（UTC）", "began (UTC)"),
    "period.lasted": ("持续", "lasted"),
    "period.still": ("仍在告警", "still firing"),
    "period.changes": ("变更与处置", "Changes and actions"),
    "period.what": ("内容", "what"),
    "period.when": ("时间（UTC）", "when (UTC)"),
    "period.who": ("执行者", "by"),
    "period.by_day": ("按天", "By day"),
    "period.by_hour": ("按小时（最差的若干个）", "By hour, the worst ones"),
    "period.rule": (
        "达成率与预算来自计数，是精确值；百分位由直方图估计，仅供展示。",
        "Attainment and budget come from counts and are exact; percentiles are estimated from histograms, for display.",
    ),
}  # fmt: skip


class Words:
    """The dictionary in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._index = LANGUAGES.index(language)

    def __call__(self, key: str, **values: object) -> str:
        """The word under `key`, with `{names}` filled in."""
        text = WORDS[key][self._index]
        return text.format(**values) if values else text

    def remark(self, sentence: str) -> str:
        """A sentence out of a record."""
        return in_chinese(sentence) if self.language == "zh" else sentence

    def named(self, prefix: str, name: str) -> str:
        """The word for a name that may come from outside: itself where the dictionary has none."""
        return WORDS[f"{prefix}.{name}"][self._index] if f"{prefix}.{name}" in WORDS else name


def preferred(environ: dict[str, str]) -> Language:
    """Chinese where the reader's system speaks it, else English."""
    spoken = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return "zh" if spoken.lower().startswith("zh") else "en"
