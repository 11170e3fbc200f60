"""
What a report draws, as plain values: the same plot goes to plotly in the HTML page and to Pillow in a PNG.

Made from records alone. A percentile that is a failed request has no point: None leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal

from slo.records import Run
from slo.report.strings import Words
from slo.samples import Sample, Summary
from slo.stats import nearest_rank
from slo.texts import LENGTHS

Tone = Literal["main", "soft", "good", "bad", "warn", "a", "b", "c", "d"]
TONES: tuple[Tone, ...] = ("main", "a", "b", "c", "d")
PROBE_TONES: dict[str, Tone] = {"met": "good", "missed": "bad", "unproven": "warn"}
BUCKETS = 60
FEWEST = 50  # samples in a bucket that shall have a P95
BINS = 60


def class_order(name: str) -> int:
    """For sorting: short, medium, long, documents, then all others."""
    return list(LENGTHS).index(name) if name in LENGTHS else len(LENGTHS)


def ordered(run: Run) -> list[Summary]:
    """The summaries of `run`: short, medium, long, others, and the whole at the end."""
    return sorted(run.summaries(), key=lambda one: (one.name == "overall", class_order(one.name)))


@dataclass(frozen=True, kw_only=True)
class PlotTrace:
    """One row of bars, line or cloud. `low` and `high` are ends of intervals."""

    name: str
    kind: Literal["line", "dotted", "bars", "points"]
    x: Sequence[float | str]
    y: Sequence[float | None]
    tone: Tone = "main"
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Traces over common axes, and the objective's limit on one of them."""

    key: str
    title: str
    x_title: str
    y_title: str
    traces: Sequence[PlotTrace]
    limit: float | None = None
    limit_on: Literal["x", "y"] = "y"
    limit_label: str = ""
    stacked: bool = False
    note: str = ""
    x_range: tuple[float, float] | None = field(default=None)


def main_plot(runs: Sequence[Run], words: Words) -> Plot | None:
    """The one picture for a chat: before and after, else the capacity curve, P95 over time, or the distribution."""
    if len(runs) > 1 and (both := before_after(runs[0], runs[-1], words)):
        return both
    makers: Sequence[Callable[[Run, Words], Plot | None]] = (capacity_curve, over_time, good_over_time, distribution)
    if runs[-1].kind == "baseline":
        makers = (distribution,)
    return next((plot for make in makers if (plot := make(runs[-1], words))), None)


def plots_of(run: Run, words: Words) -> list[Plot]:
    """Every plot that the record gives rise to."""
    makers: Sequence[Callable[[Run, Words], Plot | None]] = (
        capacity_curve, over_time, good_over_time, distribution, stages,
    )  # fmt: skip
    return [plot for make in makers if (plot := make(run, words))]


def distribution(run: Run, words: Words) -> Plot | None:
    """Share of requests by latency, length classes stacked; the last bar holds all beyond."""
    answered = [sample for sample in run.samples if sample.ok and not sample.cached]
    if not answered:
        return None
    limit = run.objective.threshold_ms
    slowest = max(sample.latency_ms for sample in answered)
    end = min(max(slowest, limit * 1.3), limit * 4)
    width = _round_width(end / BINS)
    bins = math.ceil(end / width)
    starts = [round((index + 0.5) * width, 6) for index in range(bins)]
    traces: list[PlotTrace] = []
    for tone, name in zip(_cycle(), _classes(run), strict=False):
        counts = [0] * bins
        for sample in answered:
            if sample.length_class == name:
                # (a, b] as everywhere: 150 ms itself lies below the limit.
                counts[min(bins - 1, max(0, math.ceil(sample.latency_ms / width) - 1))] += 1
        shares = [100 * count / len(run.samples) for count in counts]
        traces.append(PlotTrace(name=words.named("class", name), kind="bars", x=starts, y=shares, tone=tone))
    return Plot(
        key="distribution", title=words("distribution"), x_title=words("axis.latency"), y_title=words("axis.share"),
        traces=traces, limit=limit, limit_on="x", limit_label=words("limit", ms=f"{limit:g}"), stacked=True,
        note=words("beyond") if slowest > end else "", x_range=(0, bins * width),
    )  # fmt: skip


def over_time(run: Run, words: Words) -> Plot | None:
    """P95 and P50 in slices of the run; from all samples where they are recorded, else as the run counted them."""
    rows = _slices(run)
    if len(rows) < 2 or all(_finite(value) is None for row in rows for value in row[1:]):
        return None
    times, axis = _times([t for t, _, _ in rows])
    limit = run.objective.threshold_ms
    traces = [PlotTrace(name="P95", kind="line", x=times, y=[_finite(p95) for _, _, p95 in rows])]
    if any(p50 is not None for _, p50, _ in rows):
        p50s = [_finite(p50) for _, p50, _ in rows]
        traces.append(PlotTrace(name="P50", kind="dotted", x=times, y=p50s, tone="soft"))
    return Plot(
        key="over_time", title=words("over_time"), x_title=words(axis), y_title=words("axis.latency"), traces=traces,
        limit=limit, limit_label=words("limit", ms=f"{limit:g}"), note=words("gap") if None in traces[0].y else "",
    )  # fmt: skip


def good_over_time(run: Run, words: Words) -> Plot | None:
    """Share of good requests per slice of a soak, which has a point where a P95 has none: when too many failed."""
    rows = [row for row in run.details.get("slices", []) if row.get("total")]
    if len(rows) < 2:
        return None
    ends = list(accumulate(row["seconds"] for row in rows))
    starts = [row.get("t", end - row["seconds"]) for row, end in zip(rows, ends, strict=True)]
    times, axis = _times([start + row["seconds"] / 2 for start, row in zip(starts, rows, strict=True)])
    shares = [round(100 * row["good"] / row["total"], 3) for row in rows]
    target = 100 * run.objective.target
    return Plot(
        key="good_over_time", title=words("good_over_time"), x_title=words(axis), y_title=words("axis.good"),
        traces=[PlotTrace(name=words("good"), kind="line", x=times, y=shares)], limit=target,
        limit_label=words("at_least", share=f"{target:g}"),
    )  # fmt: skip


def capacity_curve(run: Run, words: Words) -> Plot | None:
    """P95 against the arrival rate, from the probes of the search; a point's colour is its verdict."""
    searches = run.details.get("searches", {})
    traces: list[PlotTrace] = []
    for tone, (name, found) in zip(_cycle(), searches.items(), strict=False):
        probes = sorted(found["probes"], key=lambda probe: probe["load"])
        title = words.named("search", words.named("class", name))
        lined = [probe for probe in probes if probe["p95_ms"] is not None]
        traces.append(
            PlotTrace(name=title, kind="line", x=[p["load"] for p in lined], y=[p["p95_ms"] for p in lined], tone=tone)
        )
    everything = [probe for found in searches.values() for probe in found["probes"]]
    limit = run.objective.threshold_ms
    # A probe of which over 5 % failed has no P95; without it nobody would see where the service gives way.
    edge_ms = max([limit * 1.4, *(probe["p95_ms"] * 1.1 for probe in everything if probe["p95_ms"] is not None)])
    for verdict, tone in PROBE_TONES.items():
        fitting = [probe for probe in everything if probe["verdict"] == verdict]
        if fitting:
            loads = [probe["load"] for probe in fitting]
            p95s = [edge_ms if probe["p95_ms"] is None else probe["p95_ms"] for probe in fitting]
            traces.append(PlotTrace(name=words(f"probe.{verdict}"), kind="points", x=loads, y=p95s, tone=tone))
    if not everything:
        return None
    failed = any(probe["p95_ms"] is None for probe in everything)
    return Plot(
        key="curve", title=words("curve"), x_title=words("axis.rate"), y_title=words("axis.p95"), traces=traces,
        limit=limit, limit_label=words("limit", ms=f"{limit:g}"), note=words("at_edge") if failed else "",
    )  # fmt: skip


def stages(run: Run, words: Words) -> Plot | None:
    """Mean time per stage, as the server itself gave it."""
    found = {
        name: stage["mean_ms"]
        for name, stage in run.details.get("stages", {}).items()
        if stage.get("mean_ms") is not None and name != "total"
    }
    if not found:
        return None
    trace = PlotTrace(name=words("axis.mean"), kind="bars", x=list(found), y=list(found.values()))
    return Plot(
        key="stages", title=words("stages"), x_title=words("axis.stage"), y_title=words("axis.mean"), traces=[trace]
    )


def before_after(before: Run, after: Run, words: Words) -> Plot | None:
    """P95 of each class that both runs have, with its interval."""
    first, second = ({summary.name: summary for summary in run.summaries()} for run in (before, after))
    names = [name for name in first if name in second]
    if not names:
        return None
    limit = after.objective.threshold_ms
    sides: tuple[tuple[str, Tone, dict[str, Summary]], ...] = (("before", "soft", first), ("after", "main", second))
    traces = [
        PlotTrace(
            name=words(which), kind="bars", tone=tone, x=[words.named("class", name) for name in names],
            y=[_finite(of[name].p95_ms) for name in names],
            low=[_finite(of[name].p95_low_ms) for name in names],
            high=[_finite(of[name].p95_high_ms) for name in names],
        )
        for which, tone, of in sides
    ]  # fmt: skip
    return Plot(
        key="before_after", title=words("before_after"), x_title=words("axis.class"), y_title=words("axis.p95"),
        traces=traces, limit=limit, limit_label=words("limit", ms=f"{limit:g}"),
    )  # fmt: skip


def _slices(run: Run) -> list[tuple[float, float | None, float | None]]:
    """Middle in seconds from the start, P50 and P95 of each slice."""
    if soak := run.details.get("slices"):
        return list(_soaked(soak))
    if run.exact:
        series = [row for row in run.details.get("series", []) if not row["warmup"]]
        return [(row["t"], row["p50_ms"], row["p95_ms"]) for row in series]
    return _bucketed([sample for sample in run.samples if not sample.cached])


def _soaked(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[float, float | None, float | None]]:
    """Slices at their places in time; a gap where the run was interrupted for longer than half a slice."""
    end = 0.0
    for row in rows:
        start = row.get("t", end)
        if end and start - end > row["seconds"] / 2:
            yield (start + end) / 2, None, None
        yield start + row["seconds"] / 2, row.get("p50_ms"), row["p95_ms"]
        end = start + row["seconds"]


def _bucketed(samples: Sequence[Sample]) -> list[tuple[float, float | None, float | None]]:
    """Equal parts of the time span, few enough for each to hold `FEWEST` samples."""
    if len(samples) < 2 * FEWEST:
        return []
    start, end = min(s.due_s for s in samples), max(s.due_s for s in samples)
    number = min(BUCKETS, len(samples) // FEWEST)
    width = (end - start) / number or 1.0
    parts: list[list[float]] = [[] for _ in range(number)]
    for sample in samples:
        parts[min(number - 1, int((sample.due_s - start) / width))].append(sample.latency_ms if sample.ok else math.inf)
    return [
        ((index + 0.5) * width, nearest_rank(sorted(part), 0.5), nearest_rank(sorted(part), 0.95))
        for index, part in enumerate(parts)
        if part
    ]


def _times(seconds: Sequence[float]) -> tuple[list[float], str]:
    """Places on the axis, in seconds or minutes, and the axis' name."""
    scale, axis = (60, "axis.minutes") if seconds[-1] > 600 else (1, "axis.seconds")
    return [round(t / scale, 3) for t in seconds], axis


def _classes(run: Run) -> list[str]:
    """Short before medium before long, so that a class has the same colour in every report."""
    found = dict.fromkeys(sample.length_class for sample in run.samples if not sample.cached)
    return sorted(found, key=class_order)


def _cycle() -> list[Tone]:
    return [TONES[index % len(TONES)] for index in range(20)]


def _round_width(width: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten; the limit of 150 ms then falls on an edge."""
    power: float = 10.0 ** math.floor(math.log10(width))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= width * (1 - 1e-9))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)
