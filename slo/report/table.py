"""Tables for a terminal, made from records and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from slo.clock import iso
from slo.model_files import STAND_IN_LABEL
from slo.objective import Judgement, Verdict
from slo.records import Run
from slo.samples import Summary
from slo.units import show_ms, show_ratio

if TYPE_CHECKING:  # at run time it would bring numpy along
    from slo.bench.compare import Comparison, Row

STYLES = {Verdict.MET: "bold green", Verdict.MISSED: "bold red", Verdict.UNPROVEN: "bold yellow"}
_FACTS = (
    ("engine", ("engine", "model_engine")),
    ("precision", ("precision", "quantization")),
    ("replicas", ("replicas", "replica")),
)


def run_report(run: Run) -> RenderableType:
    """Everything a person wants of one run: whom, what, the figures, the verdict and the notes."""
    parts: list[RenderableType] = [*_head(run), _summaries(run), *failure_lines(run), _verdict_line(run)]
    parts += [Text(f"note: {note}", style="yellow") for note in run.notes]
    return Group(*parts, *together_line(run))


def comparison_report(comparison: Comparison) -> RenderableType:
    """Before and after, row by row, and what to mind about it."""
    before, after = comparison.before, comparison.after
    parts: list[RenderableType] = [
        _named("before", before),
        _named("after", after),
        _comparison_table(comparison.rows, after.objective.percentile),
        Text(f"objective {after.objective}; the intervals hold for all rows together at 95 %", style="dim"),
    ]
    parts += [Text(f"warning: {warning}", style="yellow") for warning in comparison.warnings]
    return Group(*parts)


def _head(run: Run) -> Iterable[Text]:
    yield Text(f"{run.model} at {run.endpoint}  ({iso(run.started_wall_s)})")
    if words := _server_words(run):
        yield Text(words)
    if run.stand_in:
        yield Text(STAND_IN_LABEL, style="bold yellow")
    yield Text(f"{run.host.get('cpu', '?')}, {run.host.get('cores', '?')} cores, load {run.host.get('load_1m', '?')}")


def _server_words(run: Run) -> str:
    found = []
    for label, keys in _FACTS:
        value = next((run.server[key] for key in keys if run.server.get(key) not in (None, "")), None)
        if value is not None:
            found.append(f"{label} {value}")
    return ", ".join(found)


def _named(word: str, run: Run) -> Text:
    parts = [f"{word:<7} {run.id}", _server_words(run), "stand-in weights" if run.stand_in else ""]
    return Text("  ".join(part for part in parts if part))


def _summaries(run: Run) -> Table:
    table = Table(title=f"{run.kind}: {run.objective}", title_justify="left", expand=False)
    table.add_column("class")
    for heading in ("n", "success", "P50", "P95", "95 % interval", "P99", "max", "mean"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    for summary in run.summaries():
        if summary.name == "overall":
            table.add_section()
        table.add_row(*_cells(summary), _judged(summary.judgement))
        if answered := summary.of_answered():
            table.add_row(*_cells(answered), Text("not judged"), style="dim")
    on_pace = run.details.get("on_pace")
    if on_pace and (on_pace["expected"] or on_pace["verdict"] != run.summaries()[-1].judgement.verdict.value):
        table.add_row(*_paced_cells(on_pace), Text(on_pace["verdict"], style=STYLES[Verdict(on_pace["verdict"])]))
    if hits := run.cached():
        table.add_section()
        table.add_row(*_cells(hits), Text("not judged", style="dim"))
    return table


def _paced_cells(on_pace: dict[str, Any]) -> list[str]:
    """Sent and expected requests; of figures that were measured only the P95."""
    p95 = "failed" if on_pace["p95_ms"] is None else show_ms(on_pace["p95_ms"])
    return ["on pace", str(on_pace["total"]), "–", "–", p95, "–", "–", "–", "–"]


def failure_lines(run: Run) -> Iterable[Text]:
    """`failed: 12 × HTTP 503 server_fault overloaded: "try again" (q17)`, a line for each kind."""
    for row in run.details.get("failures", ()):
        status = f"HTTP {row['status']} " if row["status"] else ""
        said = f': "{row["example"]}"' if row["example"] else ""
        whose = f" ({row['request']})" if row["request"] else ""
        code = f" {row['code']}" if row["code"] else ""
        yield Text(f"failed: {row['count']} × {status}{row['outcome']}{code}{said}{whose}", style="red")


def _cells(summary: Summary) -> list[str]:
    return [
        summary.name,
        str(summary.total),
        show_ratio(summary.success_ratio),
        show_ms(summary.p50_ms),
        show_ms(summary.p95_ms),
        "–" if math.isnan(summary.p95_low_ms) else f"{show_ms(summary.p95_low_ms)} – {show_ms(summary.p95_high_ms)}",
        show_ms(summary.p99_ms),
        show_ms(summary.max_ms),
        show_ms(summary.mean_ms),
    ]


def _judged(judgement: Judgement) -> Text:
    return Text(judgement.verdict.value, style=STYLES[judgement.verdict])


def _verdict_line(run: Run) -> Text:
    line = Text("verdict: ")
    line.append(run.verdict.value.upper(), style=STYLES[run.verdict])
    deciding = [s for s in run.summaries() if s.judgement.verdict is run.verdict and s.name not in run.apart]
    if run.verdict is Verdict.UNPROVEN:
        reasons = run.void or [f"{s.name}: {s.judgement.advice}" for s in deciding] or _paced(run)
        line.append(f"  {run.objective} ({'; '.join(reasons or ['nothing was computed'])})")
    else:
        missed = [s.name for s in deciding] or ["callers who keep their pace"]
        where = "every class" if run.verdict is Verdict.MET else ", ".join(missed)
        line.append(f"  {run.objective}, proven at {run.objective.sureness} confidence for {where}")
    if beside := [f"{s.name} {s.judgement.verdict.value}" for s in run.summaries() if s.name in run.apart]:
        line.append(f"; documents apart: {', '.join(beside)}", style="dim")
    return line


def together_line(run: Run) -> Iterable[Text]:
    """The verdict on several runs of `--repeat`, with their spread, under the last of them."""
    if found := run.details.get("repeats"):
        verdict = Verdict(found["verdict"])
        line = Text("together: ").append(verdict.value.upper(), style=STYLES[verdict])
        yield line.append(f"  {run.objective}: {found['words']}" + (f" ({found['advice']})" if found["advice"] else ""))


def _paced(run: Run) -> list[str]:
    advice = run.details.get("on_pace", {}).get("advice")
    return [f"on pace: {advice}"] if advice else []


def _comparison_table(rows: Iterable[Row], percentile: str) -> Table:
    table = Table(title=f"{percentile} before and after", title_justify="left")
    table.add_column("class")
    for heading in ("before", "after", "improvement", "after/before"):
        table.add_column(heading, justify="right")
    table.add_column("difference", no_wrap=True)
    table.add_column("verdict")
    for row in rows:
        table.add_row(
            row.before.name,
            show_ms(row.before_ms),
            show_ms(row.after_ms),
            _signed(row.improvement),
            "–" if math.isnan(row.low) else f"{_ratio(row.low)} – {_ratio(row.high)}",
            row.difference.value,
            _judged(row.before.judgement) + Text(" → ") + _judged(row.after.judgement),
        )
    return table


def _signed(share: float) -> str:
    return "–" if math.isnan(share) else f"{share * 100:+.1f} %"


def _ratio(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f}"
