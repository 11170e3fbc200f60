"""Terminal tables of `load` and `stress`, made from records and nothing else, and the parts that `capacity` shares."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slo.clock import iso
from slo.model_files import STAND_IN_LABEL
from slo.objective import Objective, Verdict
from slo.records import Run
from slo.report.facts import service_p95_ms
from slo.report.plots import ordered
from slo.report.table import STYLES, failure_lines, together_line
from slo.samples import Summary
from slo.units import show_bytes, show_duration, show_ms, show_ratio


def load_report(run: Run) -> RenderableType:
    """An open-loop run: classes, rate, where the time went, self-check, verdict."""
    return Group(*head(run), class_table(run), *_figures(run), *tail(run))


def stress_report(run: Run) -> RenderableType:
    """A soak: the result table, then the classes."""
    figures = run.details["soak"]
    table = Table(title=f"stress: {run.objective}, closed loop", title_justify="left")
    table.add_column("metric")
    table.add_column("result", justify="right")
    for name, value in stress_rows(figures):
        table.add_row(name, value)
    return Group(*head(run), table, class_table(run), *_figures(run), *tail(run))


def stress_rows(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """The result table of a 24-hour test: what it shows and how it is written."""
    attained, slices, paced = figures["attainment"], figures["slices_met"], figures.get("on_pace")
    rows = [
        ("duration", show_duration(figures["seconds"])),
        ("requests", f"{figures['requests']} ({figures['rate']:.1f}/s)"),
        ("P95", shown_ms(figures["p95_ms"])),
        *([("P95 of what was answered", shown_ms(figures.get("answered_p95_ms")))] if figures["errors"] else []),
        ("worst slice's P95", shown_ms(figures["worst_slice_p95_ms"])),
        ("requests within the objective", "–" if attained is None else show_ratio(attained)),
        *([("the same, had callers kept their pace", show_ratio(paced))] if paced is not None else []),
        (f"slices that met it, of {figures['slices']}", "–" if slices is None else show_ratio(slices)),
        ("concurrent requests", f"{figures['clients']} (largest seen {figures['peak_in_flight']})"),
        ("errors", f"{figures['errors']} ({_rate(figures['error_rate'])}){_kinds(figures)}"),
    ]
    if memory := figures["memory"]:
        low, high = (f"{_signed_bytes(memory[key])}" for key in ("low", "high"))
        small = "less than 1 % over the run" if memory["low"] > 0 else "no growth proven"
        word = "growing" if memory["growing"] else small
        rows.append(("server memory, slope", f"{_signed_bytes(memory['bytes_per_hour'])}/h [{low}, {high}]: {word}"))
    return rows


def _kinds(figures: dict[str, Any]) -> str:
    """`: 21 refused, 3 timeout`; empty without errors."""
    failed = sorted(figures.get("failed", {}).items(), key=lambda pair: -pair[1])
    return ": " + ", ".join(f"{count} {name}" for name, count in failed) if failed else ""


def slice_line(row: dict[str, Any], objective: Objective) -> str:
    """One slice of a soak on one line."""
    ratio = row["good"] / row["total"] if row["total"] else math.nan
    failed = sum(row["failed"].values())
    memory = f", {memory_of(row)}" if row.get("rss") else ""
    wrong = sum(len(part["wrong"]) for part in row.get("answers", ()))
    memory += f", {wrong} WRONG ANSWERS" if wrong else ""
    memory += f" (generator: {'; '.join(row['faults'])})" if row.get("faults") else ""
    return (
        f"slice {row['index'] + 1}: {row['total']} requests ({row['rate']:.1f}/s), P95 {shown_ms(row['p95_ms'])}, "
        f"{show_ratio(ratio)} within {objective.threshold_ms:g} ms, {failed} failed{_kinds(row)}{memory}"
    )


def memory_of(use: dict[str, Any]) -> str:
    """Memory of the server's processes: PSS, in which shared pages count once, or, where not known, RSS."""
    if use.get("pss"):
        return f"{show_bytes(use['pss'])} of memory"
    return f"{show_bytes(use['rss'])} resident"


def head(run: Run) -> Iterable[Text]:
    """Whom, when, with what, on which machine, and how to repeat it."""
    yield Text(f"{run.model} at {run.endpoint}  ({iso(run.started_wall_s)}, {run.id})")
    if run.stand_in:
        yield Text(STAND_IN_LABEL, style="bold yellow")
    yield Text(f"{run.host.get('cpu', '?')}, {run.host.get('cores', '?')} cores, load {run.host.get('load_1m', '?')}")
    yield Text(f"repeat: {run.settings.get('command', '')}", style="dim")


def tail(run: Run) -> Iterable[Text]:
    """Self-check, notes, verdict."""
    check = run.details.get("self_check")
    if check:
        lag = "–" if check["lag_p99_ms"] is None else show_ms(check["lag_p99_ms"])
        parts = [
            f"generator at {run.details['priority']} priority: lag P99 {lag}",
            f"CPU {_percent(check['cpu_share'])} of a core",
            f"Little's law off by {_percent(check['little_gap'])}",
            f"clocks by {_percent(check['clock_drift'])}",
        ]
        yield Text(", ".join(parts), style="dim")
    for note in run.notes:
        yield Text(f"note: {note}", style="yellow")
    yield verdict_line(run)
    yield from together_line(run)


def verdict_line(run: Run) -> Text:
    """`verdict: MET  P95 ≤ 150 ms, 1960/2000 good …`, with reasons where there is none."""
    conclusion = run.details.get("conclusion", {})
    if run.void:
        return Text("verdict: VOID  ", style="bold yellow").append("; ".join(run.void), style="not bold")
    line = Text("verdict: ").append(run.verdict.value.upper(), style=STYLES[run.verdict])
    line.append(f"  {run.objective}")
    if conclusion:
        line.append(f", {conclusion['good']}/{conclusion['total']} within {run.objective.threshold_ms:g} ms")
        if conclusion["effective"] < 0.95 * conclusion["total"]:
            line.append(f", weighing as {conclusion['effective']:.0f} independent requests")
        reasons = [*conclusion["remarks"], *([conclusion["advice"]] if run.verdict is Verdict.UNPROVEN else [])]
        if reasons := [reason for reason in reasons if reason]:
            line.append(" (" + "; ".join(reasons) + ")")
    return line


def class_table(run: Run) -> Table:
    """Figures by class; latency from the due moment, and beside it the service time."""
    loop = "sent" if run.settings.get("loop") == "closed" else "due"
    table = Table(title=f"{run.kind}: latency from the moment a request was {loop}", title_justify="left")
    table.add_column("class")
    for heading in ("n", "failed", "good", "P50", "P95", "95 % interval", "P99", "max", "service P95"):
        table.add_column(heading, justify="right")
    for summary in [*ordered(run), *([cached] if (cached := run.cached()) else [])]:
        if summary.name in ("overall", "cached"):
            table.add_section()
        table.add_row(*_cells(run, summary))
        if answered := summary.of_answered():
            table.add_row(*_cells(run, answered), style="dim")
    return table


def _cells(run: Run, summary: Summary) -> list[str]:
    return [
        summary.name,
        str(summary.total),
        str(summary.failed),
        show_ratio(summary.judgement.good_ratio),
        shown_ms(summary.p50_ms),
        shown_ms(summary.p95_ms),
        _interval(summary),
        shown_ms(summary.p99_ms),
        shown_ms(summary.max_ms),
        shown_ms(service_p95_ms(run, summary.name)),
    ]


def _interval(summary: Summary) -> str:
    low, high = summary.p95_low_ms, summary.p95_high_ms
    return "–" if math.isnan(low) else f"{show_ms(low)} – {'∞' if math.isinf(high) else show_ms(high)}"


def _figures(run: Run) -> Iterable[Text]:
    details = run.details
    seconds = details.get("measured_s") or details.get("soak", {}).get("seconds") or 0
    summaries = run.summaries()
    if seconds and summaries:
        whole = summaries[-1]
        offered = f"offered {details['sent'] / seconds:.1f}/s, " if "sent" in details else ""
        if run.cached():
            offered += f"computed {(whole.total - whole.failed) / seconds:.1f}/s, "
        if tokens := details.get("tokens_answered"):
            offered += f"{tokens / seconds:.0f} tokens/s, "
        if again := details.get("sent_again"):
            offered += f"{again} sent again, "
        yield Text(
            f"{offered}good {whole.judgement.good / seconds:.1f}/s, at most {details['peak_in_flight']} in flight on "
            f"{details['peak_connections']} connections; warm-up of {show_duration(details['warmup']['seconds'])} "
            f"({details['warmup']['discarded']} requests) left out"
        )
    yield from failure_lines(run)
    if stages := details.get("stages"):
        parts = [f"{name} {shown_ms(stage['p50_ms'])}/{shown_ms(stage['p95_ms'])}" for name, stage in stages.items()]
        yield Text("inside the server, P50/P95: " + ", ".join(parts))
    use = details.get("resource_summary", {})
    parts = []
    if use.get("server_cpu") is not None:
        parts.append(f"server {use['server_cpu']:.2f} cores, {memory_of({**use, 'rss': use['rss_max']})}")
    if use.get("steal") is not None:
        parts.append(f"stolen by neighbours {use['steal']:.1%} of the machine")
    if parts:
        yield Text("; ".join(parts))


def shown_ms(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "failed"
    return show_ms(value)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _rate(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _signed_bytes(size: float) -> str:
    return ("+" if size >= 0 else "−") + show_bytes(abs(size))
