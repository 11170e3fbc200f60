"""
What a measurement remarks about itself, in English and in Chinese.

A record keeps plain English sentences, which machines and logs read as well; a report in Chinese finds each of them
here again by its pattern. So both languages of a sentence stand side by side, and records of older versions are
translated, too.
"""

from __future__ import annotations

import re
from functools import cache
from string import Formatter

SENTENCES: dict[str, tuple[str, str]] = {
    "late": (
        "{late} of {total} requests left over {limit} ms late (P99 {p99} ms)",
        "{total} 个请求中有 {late} 个发送迟于 {limit} ms（P99 {p99} ms）",
    ),
    "busy": ("the generator used {share} of a core (limit {limit})", "发压端占用了一个核的 {share}（上限 {limit}）"),
    "stolen": (
        "other machines on this host took {share} of the processors' time (limit {limit})",
        "同一宿主机上的其他虚拟机占用了 {share} 的处理器时间（上限 {limit}）",
    ),
    "lost": (
        "requests in flight and arrivals × stay differ by {gap}: some were lost",
        "在途请求数与“到达率 × 停留时间”相差 {gap}：有请求丢失",
    ),
    "clocks": ("monotonic and wall clock drifted apart by {drift}", "单调时钟与系统时钟偏离 {drift}"),
    "lag": ("send lag P99 is {share} of the threshold", "发送延迟 P99 占上限的 {share}"),
    "clocks.noted": ("clocks drifted apart by {drift}", "两个时钟偏离 {drift}"),
    "cached": ("answers from a cache: {count}, counted apart", "缓存应答 {count} 条，另行统计"),
    "mostly.cached": (
        "{cached} of {total} answers came from a cache, though no repeats were asked for (`slo control clear-cache`)",
        "{total} 条应答中有 {cached} 条来自缓存，而并未要求重复文本（可用 `slo control clear-cache` 清空）",
    ),
    "repeated": (
        "{count} of {total} requests repeated a text of the file and were sent with Cache-Control: no-cache; "
        "a server that ignores that may have answered them from a cache",
        "{total} 个请求中有 {count} 个重复了文件中的文本，已带 Cache-Control: no-cache 发送；"
        "不理会它的服务器可能仍以缓存应答",
    ),
    "cached.seed": (
        "{count} answers came from a cache (seed used before?); they are reported apart",
        "有 {count} 条应答来自缓存（种子以前用过？），另行列出",
    ),
    "unverified": (
        "{count} kept answers could not be compared: no uncached reference was given",
        "{count} 条留存的应答无法核对：拿不到未经缓存的参照",
    ),
    "thinned": (
        "{kept} of {total} samples are recorded; the counts cover all",
        "记录了 {total} 个样本中的 {kept} 个；计数涵盖全部",
    ),
    "thinned.fair": (
        "{kept} of {total} samples are recorded, a fair part; the counts cover all",
        "按比例均匀记录了 {total} 个样本中的 {kept} 个；计数涵盖全部",
    ),
    "unreachable": (
        "{count} requests were not connected or cut off; last: {error}",
        "{count} 个请求未能连接或被切断；最后一次：{error}",
    ),
    "unsettled": ("latency had not settled after {seconds} s of warm-up", "预热 {seconds} 秒后延迟仍未稳定"),
    "untraced": ("arrivals were not recorded: {error}", "到达记录未能写出：{error}"),
    "stopped": ("stopped by the user after {done} of {total} requests", "用户中断，完成 {total} 个请求中的 {done} 个"),
    "silent": (
        "ended after {done} of {total}: {row} in a row were never answered",
        "完成 {total} 个中的 {done} 个后结束：连续 {row} 个没有应答",
    ),
    "closed": (
        "closed loop: describes these callers; independent callers do not wait for each other",
        "闭环：结果只描述这些调用者；相互独立的调用者不会彼此等待",
    ),
    "on.pace": (
        "while late answers were waited for, {expected} more requests would have been due, {late} of them late: "
        "callers who keep their pace find {share} within {limit} ms",
        "等待超限应答期间本应再发出 {expected} 个请求，其中 {late} 个超限："
        "按自身节奏发送的调用者只有 {share} 在 {limit} ms 内",
    ),
    "repeats": (
        "{count} runs, {percentile} from {low} to {high}, {met} of them met it alone; together {share} within "
        "{limit} ms",
        "共 {count} 次，{percentile} 在 {low} 与 {high} 之间，其中 {met} 次单独达标；合计 {share} 在 {limit} ms 内",
    ),
    "slices": ("the generator was late or busy in slices {slices}", "发压端在第 {slices} 个时段迟发或过忙"),
    "paused": ("interrupted for {pause} after slice {index}", "第 {index} 个时段之后中断了 {pause}"),
    "wrong": (
        "{wrong} of {compared} checked answers were wrong: they are not the vectors of their texts",
        "核对的 {compared} 条应答中有 {wrong} 条错误：与同一文本的向量不同",
    ),
    "wrong.older": (  # so it was said until version 0.1.0
        "{wrong} of {compared} checked answers were wrong: they differ from the same text's vector",
        "核对的 {compared} 条应答中有 {wrong} 条错误：与同一文本的向量不同",
    ),
    "alike": (
        "{count} of the wrong answers have the very vector of another text",
        "错误应答中有 {count} 条与另一文本的向量完全相同",
    ),
    "clusters": (
        "late requests come in clusters: these {total} weigh as {effective} independent ones; run longer",
        "超限请求成簇出现：这 {total} 个只相当于 {effective} 个独立请求；请延长测量",
    ),
    "more": (
        "with {bad} bad, {needed} samples would prove it met; {total} taken",
        "已有 {bad} 个超限，需 {needed} 个样本才能证实达标；现有 {total} 个",
    ),
    "likely": (
        "likely missed, not yet proven at {confidence}; {total} samples taken",
        "很可能未达标，尚未达到 {confidence} 的置信度；现有 {total} 个样本",
    ),
    "short": (
        "no miss in {seconds}, but a service that stalls for {stall} at a time may have been met between two stalls: "
        "run for {least} (setting longest_stall)",
        "{seconds} 内未见未达标，但若服务每次停顿 {stall}，可能恰好测在两次停顿之间："
        "请测 {least}（设置项 longest_stall）",
    ),
    "growing": (
        "the queue kept growing (in flight {first} → {last}, latency {from_ms} → {to_ms} ms): "
        "the rate is above capacity, and any percentile depends on how long one measures",
        "队列一直在增长（在途 {first} → {last}，延迟 {from_ms} → {to_ms} ms）：速率超过容量，百分位取决于测了多久",
    ),
    "plan.failed": (
        "the check at {rate}/s failed: too many had no answer. `slo capacity` measures",
        "以 {rate} 次/秒核对失败：太多请求没有应答。请用 `slo capacity` 实测",
    ),
    "plan.most": (
        "the check took {ratio} times as long as predicted: a replica's capacity is at most what stands here; "
        "`slo capacity` measures it",
        "核对所得为预测的 {ratio} 倍：单副本容量至多如此；可用 `slo capacity` 实测",
    ),
    "plan.least": (
        "the check took {ratio} times as long as predicted: a replica's capacity is at least what stands here; "
        "`slo capacity` measures it",
        "核对所得为预测的 {ratio} 倍：单副本容量至少如此；可用 `slo capacity` 实测",
    ),
    "plan.elsewhere": (
        "the server is not on this machine: give its cores with --cores",
        "服务器不在本机：请用 --cores 给出其核数",
    ),
    "different.kind": ("different kinds of run: {a} and {b}", "测试种类不同：{a} 与 {b}"),
    "different.model": ("different models: {a} and {b}", "模型不同：{a} 与 {b}"),
    "different.cpu": ("different processors: {a} and {b}", "处理器不同：{a} 与 {b}"),
    "different.cores": ("different numbers of cores: {a} and {b}", "核数不同：{a} 与 {b}"),
    "different.objective": (
        "different objectives (the second judges both): {a} and {b}",
        "目标不同（两者均按后者判定）：{a} 与 {b}",
    ),
    "different.seed": (
        "different seeds (other texts of the same lengths): {a} and {b}",
        "种子不同（长度相同的另一批文本）：{a} 与 {b}",
    ),
    "different.encoding": ("different encodings of vectors: {a} and {b}", "向量编码不同：{a} 与 {b}"),
    "different.connections": ("different numbers of connections: {a} and {b}", "连接数不同：{a} 与 {b}"),
    "different.clients": ("different numbers of callers: {a} and {b}", "并发数不同：{a} 与 {b}"),
    "different.load": ("different loads: {a} and {b}", "负载不同：{a} 与 {b}"),
    "different.weights": ("different weights: {a} and {b}", "权重不同：{a} 与 {b}"),
    "different.classes": ("different sets of classes: {a} and {b}", "文本类别不同：{a} 与 {b}"),
    "interrupted": ("{run} was interrupted", "{run} 曾被中断"),
    "void": ("{run} is void: its figures prove nothing ({reasons})", "{run} 已作废，其数字不能说明问题（{reasons}）"),
    "cut": ("stopped by the user; what was found until then is here", "用户中断，仅含此前已得出的结果"),
    "plan.void": ("the check was void: {reasons}", "核对作废：{reasons}"),
    "plan.unchecked": ("stopped by the user before the prediction was checked", "用户在核对预测之前中断"),
}


def say(name: str, **values: object) -> str:
    """The sentence in English."""
    return SENTENCES[name][0].format(**values)


def in_chinese(sentence: str) -> str:
    """A sentence of `say` in Chinese; any other as it is."""
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(sentence):
            return chinese.format(**found.groupdict())
    return sentence


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(_pattern(english), chinese) for english, chinese in SENTENCES.values()]


def _pattern(template: str) -> re.Pattern[str]:
    parts = [re.escape(text) + (f"(?P<{name}>.+?)" if name else "") for text, name, _, _ in Formatter().parse(template)]
    return re.compile("".join(parts), re.DOTALL)
