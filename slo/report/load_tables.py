"""Terminal tables of `load`, `stress`, `capacity` and `plan`, made from records and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slo.clock import iso
from slo.objective import Objective, Verdict
from slo.records import Run, Summary
from slo.report.facts import service_p95_ms
from slo.report.plots import ordered
from slo.report.table import STYLES, failure_lines
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
        ("P95", _ms(figures["p95_ms"])),
        *([("P95 of what was answered", _ms(figures.get("answered_p95_ms")))] if figures["errors"] else []),
        ("worst slice's P95", _ms(figures["worst_slice_p95_ms"])),
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
        f"slice {row['index'] + 1}: {row['total']} requests ({row['rate']:.1f}/s), P95 {_ms(row['p95_ms'])}, "
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
        yield Text("stand-in weights: latencies are true, meanings are not", style="bold yellow")
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
        _ms(summary.p50_ms),
        _ms(summary.p95_ms),
        _interval(summary),
        _ms(summary.p99_ms),
        _ms(summary.max_ms),
        _ms(service_p95_ms(run, summary.name)),
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
        yield Text(
            f"{offered}good {whole.judgement.good / seconds:.1f}/s, at most {details['peak_in_flight']} in flight on "
            f"{details['peak_connections']} connections; warm-up of {show_duration(details['warmup']['seconds'])} "
            f"({details['warmup']['discarded']} requests) left out"
        )
    yield from failure_lines(run)
    if stages := details.get("stages"):
        parts = [f"{name} {_ms(stage['p50_ms'])}/{_ms(stage['p95_ms'])}" for name, stage in stages.items()]
        yield Text("inside the server, P50/P95: " + ", ".join(parts))
    use = details.get("resource_summary", {})
    parts = []
    if use.get("server_cpu") is not None:
        parts.append(f"server {use['server_cpu']:.2f} cores, {memory_of({**use, 'rss': use['rss_max']})}")
    if use.get("steal") is not None:
        parts.append(f"stolen by neighbours {use['steal']:.1%} of the machine")
    if parts:
        yield Text("; ".join(parts))


def _ms(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "failed"
    return show_ms(value)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _rate(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _signed_bytes(size: float) -> str:
    return ("+" if size >= 0 else "−") + show_bytes(abs(size))


def capacity_report(run: Run) -> RenderableType:
    """The probes of each search and what they amount to, then the ladder."""
    parts: list[RenderableType] = [*head(run)]
    for name, found in run.details["searches"].items():
        parts += [probe_table(f"capacity, {name}: {run.objective}", "rate", found["probes"]), _capacity_line(found)]
    if ladder := run.details.get("ladder"):
        parts.append(probe_table("concurrency ladder (closed loop)", "callers", ladder["probes"]))
        parts.append(Text(f"largest number of callers that hold: {ladder['largest']}"))
    return Group(*parts, *tail(run))


def probe_table(title: str, load: str, probes: list[dict[str, Any]]) -> Table:
    """One row per probe."""
    table = Table(title=title, title_justify="left")
    table.add_column("purpose")
    for heading in (load, "requests", "good", "P95", "seconds"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for probe in probes:
        ratio = probe["good"] / probe["total"] if probe["total"] else math.nan
        verdict = Text("void" if probe["void"] else probe["verdict"], style=STYLES[Verdict(probe["verdict"])])
        if probe["remark"]:
            verdict.append(f" ({probe['remark']})", style="not bold")
        table.add_row(
            probe["purpose"], f"{probe['load']:.4g}", str(probe["total"]), show_ratio(ratio), _ms(probe["p95_ms"]),
            f"{probe['seconds']:.0f}", verdict,
        )  # fmt: skip
    return table


def _capacity_line(found: dict[str, Any]) -> Text:
    if not found["best"]:
        first = found["probes"][0]
        if first["void"]:
            return Text("nothing was measured: the probe at the lowest rate is void", style="bold yellow")
        proven = "does not meet" if first["verdict"] == Verdict.MISSED.value else "is not proven to meet"
        return Text(f"even the lowest rate tried {proven} the objective: try a lower --floor", style="bold red")
    at_least = "" if found["bounded"] else "at least "
    interval = f" [{found['low']:.1f}, {found['high']:.1f}]" if found["bounded"] and "low" in found else ""
    line = Text(f"capacity about {at_least}{found['best']:.1f}/s{interval}", style="bold")
    if found["confirmed"]:
        line.append(f", {found['rate']:.1f}/s proven; plan for {found['recommended']:.1f}/s (20 % headroom)")
    else:
        line.append(f"; {found['rate']:.1f}/s was tried and not proven", style="yellow")
    if (computed := found.get("computed", 1.0)) < 1:
        line.append(f"; of what was sent {computed:.0%} was computed: these are the computed rates", style="yellow")
    return line


def plan_report(run: Run) -> RenderableType:
    """What is needed, the model behind it, and its check."""
    plan = run.details["plan"]
    table = Table(title=f"plan for {plan['wish']} at {run.objective}", title_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    callers = run.details.get("callers")
    for name, value in _plan_rows(plan, run.objective.percentile) + (_callers_rows(callers) if callers else []):
        table.add_row(name, value)
    if callers:
        table.caption = "cores for more callers are computed: replicas in proportion, callers dealt out evenly"
    points = ", ".join(f"{tokens} → {show_ms(seconds * 1000)}" for tokens, seconds in run.details["points"])
    model = (
        "model: one replica takes all that waits, up to "
        f"{run.settings['most_tokens']} tokens, in one pass of a + b·tokens; Poisson arrivals, dealt out at random; "
        "simulated. M/D/1 is the same without batching. A fifth of the capacity stays free."
    )
    return Group(*head(run), table, Text(f"tokens → median alone: {points}", style="dim"), Text(model, style="dim"),
                 *(Text(f"note: {note}", style="yellow") for note in run.notes))  # fmt: skip


def _plan_rows(plan: dict[str, Any], percentile: str) -> list[tuple[str, str]]:
    idle = plan["idle"]
    rows = [
        ("replicas", str(plan["replicas"])),
        ("cores", f"{plan['cores']} ({plan['cores_per_replica']} each)"),
        (f"predicted {percentile}", _ms(plan["p95_ms"])),
        ("capacity of one replica", f"{plan['capacity']:.1f}/s (M/D/1 {plan['unbatched']:.1f}/s)"),
        ("a pass costs, alone", f"{show_ms(idle['fixed_s'] * 1000)} + {show_ms(idle['token_s'] * 1000)} per token"),
        ("slower under load", f"× {plan['slowdown']:.2f}"),
    ]
    if plan["check_measured_ms"] is not None:
        rows.append((
            f"check at {plan['check_rate']:.1f}/s",
            f"predicted {_ms(plan['check_predicted_ms'])}, measured {_ms(plan['check_measured_ms'])}",
        ))  # fmt: skip
    return rows


def _callers_rows(callers: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("callers held here, all texts unique", f"{callers['held']} on {callers['cores']} cores")]
    if callers["hit_ratio"] is not None:
        computed = (
            "" if callers["computed_p95_ms"] is None else f", the computed ones alone {_ms(callers['computed_p95_ms'])}"
        )
        value = f"with {show_ratio(callers['hit_ratio'])} from the cache (P95 {_ms(callers['p95_ms'])}{computed})"
        rows.append((f"{callers['wished']} callers held here", value))
    return rows
