"""Terminal tables of `capacity` and `plan`, made from records and nothing else."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slo.objective import Verdict
from slo.records import Run
from slo.report.load_tables import head, shown_ms, tail
from slo.report.table import STYLES
from slo.units import show_ms, show_ratio


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
            probe["purpose"], f"{probe['load']:.4g}", str(probe["total"]), show_ratio(ratio), shown_ms(probe["p95_ms"]),
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
        (f"predicted {percentile}", shown_ms(plan["p95_ms"])),
        ("capacity of one replica", f"{plan['capacity']:.1f}/s (M/D/1 {plan['unbatched']:.1f}/s)"),
        ("a pass costs, alone", f"{show_ms(idle['fixed_s'] * 1000)} + {show_ms(idle['token_s'] * 1000)} per token"),
        ("slower under load", f"× {plan['slowdown']:.2f}"),
    ]
    if plan["check_measured_ms"] is not None:
        rows.append((
            f"check at {plan['check_rate']:.1f}/s",
            f"predicted {shown_ms(plan['check_predicted_ms'])}, measured {shown_ms(plan['check_measured_ms'])}",
        ))  # fmt: skip
    return rows


def _callers_rows(callers: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("callers held here, all texts unique", f"{callers['held']} on {callers['cores']} cores")]
    if callers["hit_ratio"] is not None:
        computed = (
            ""
            if callers["computed_p95_ms"] is None
            else f", the computed ones alone {shown_ms(callers['computed_p95_ms'])}"
        )
        value = f"with {show_ratio(callers['hit_ratio'])} from the cache (P95 {shown_ms(callers['p95_ms'])}{computed})"
        rows.append((f"{callers['wished']} callers held here", value))
    return rows
