"""
The live figures in a terminal: what `/slo/api/board` and `/slo/api/history` say, as rich renderables.

Everything is said in words or signs as well as in colour. The height adapts: a low terminal loses the lower panels.
"""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from slo.units import show_bytes, show_duration, show_ms, show_ratio

MARKS = {"met": ("✓", "green"), "missed": ("✕", "red"), "unproven": ("?", "yellow"), "unknown": ("–", "dim")}
BLOCKS = " ▁▂▃▄▅▆▇█"
STAGES = ("parse", "queue", "tokenise", "wait", "infer", "finish", "call", "serialise")
BAR = 24
SHORT_BAR = 16
ROWS = 3  # of the chart over time
HEAD_LINES = 1 + 3 + ROWS + 2
TWO_COLUMNS = 96

Json = dict[str, Any]


def board_view(
    board: Json, history: Json, *, before: Json | None = None, note: str = "", size: tuple[int, int] | None = None
) -> RenderableType:
    """The whole view, or as much of it as fits into `size` (columns, lines).

    `before` is the board of the last round, from which processor shares are taken.
    """
    columns, lines = size or (120, 1000)
    pairs = (
        (_promise(board, history), _traffic(board)),
        (_distribution(board), _stages(board)),
        (_processes(board, before), _news(history)),
    )
    parts: list[RenderableType] = [_head(board, note), _verdict(board), _timeline(board, history, columns)]
    left = lines - HEAD_LINES
    for first, second in pairs:
        side_by_side = columns >= TWO_COLUMNS
        heights = [panel_lines(first), panel_lines(second)]
        left -= max(heights) if side_by_side else sum(heights)
        if left < 0:
            break
        parts.append(_beside(first, second) if side_by_side else Group(first, second))
    return Group(*parts)


def panel_lines(panel: Panel) -> int:
    """Lines that a panel around a grid takes."""
    assert isinstance(panel.renderable, Table)  # noqa: S101
    return max(1, panel.renderable.row_count) + 2


def _beside(first: Panel, second: Panel) -> Table:
    """Both, equally high."""
    first.height = second.height = max(panel_lines(first), panel_lines(second))
    table = Table.grid(expand=True)
    table.add_column(ratio=1)
    table.add_column(ratio=1)
    table.add_row(first, second)
    return table


def state_of(board: Json) -> str:
    """met, missed, unproven, or unknown where there were no requests."""
    return str(board["window"]["verdict"]) if board["window"]["total"] else "unknown"


def _head(board: Json, note: str) -> Text:
    status = board["status"]
    models = ", ".join(model["model"] for model in status["models"]) or "no model"
    line = Text(models, style="bold", no_wrap=True, overflow="ellipsis")
    if status["stand_in"]:
        line.append("  STAND-IN WEIGHTS", style="bold yellow")
    facts = [status["precision"], f"xinference-slo {status['version']}", f"up {show_duration(status['uptime_s'])}"]
    line.append("  " + " · ".join(fact for fact in facts if fact), style="dim")
    if note:
        line.append(f"  {note}", style="bold red")
    return line


def _verdict(board: Json) -> Panel:
    window, objective = board["window"], board["objective"]
    state = state_of(board)
    mark, style = MARKS[state]
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f" {mark} {state.upper()} ", style=f"bold reverse {style}")
    text.append(f"  P95 {_ms(window['p95_ms'])}", style=f"bold {style}")
    if window["p95_low_ms"] is not None:
        text.append(f"  95 % interval {_ms(window['p95_low_ms'])} – {_ms(window['p95_high_ms'])}", style="dim")
    text.append(f"   P50 {_ms(window['p50_ms'])}   P99 {_ms(window['p99_ms'])}")
    counts = f"{window['good']}/{window['total']} within {objective['threshold_ms']:g} ms in {window['seconds']} s"
    return Panel(text, title=f"{objective['name']} · {counts}", title_align="left", border_style=style)


def _timeline(board: Json, history: Json, columns: int) -> Panel:
    """One column per piece of time, now on the right; the worst P95 where several points share a column."""
    limit, points = board["objective"]["threshold_ms"], history["points"]
    highest = max([limit * 1.2, *(point["p95_ms"] for point in points if point["p95_ms"])])
    steps = round((history["to_s"] - history["from_s"]) / history["step_s"])
    width = columns - 4
    values: list[float | None] = [None] * width
    for point in points:
        step = int((point["t_s"] - history["from_s"]) / history["step_s"])
        value = point["p95_ms"] if point["p95_ms"] is not None else highest * bool(point["total"])
        for column in range(step * width // steps, max(step * width // steps + 1, (step + 1) * width // steps)):
            if 0 <= column < width:
                values[column] = max(value, values[column] or 0.0)
    text = Text()
    for row in reversed(range(ROWS)):
        at_limit = row == math.ceil(limit / highest * ROWS) - 1
        for value in values:
            cell = " " if value is None else block(value / highest * ROWS - row)
            if cell == " " and at_limit:
                text.append("╌", style="red dim")
            else:
                text.append(cell, style="red" if value is not None and value > limit else "green")
        text.append("\n" if row else "")
    span_s = history["to_s"] - history["from_s"] - history["step_s"]
    title = f"P95, last {show_duration(span_s)}; full height {show_ms(highest)}, limit ╌ {show_ms(limit)}"
    return Panel(text, title=title, title_align="left", border_style="dim")


def _promise(board: Json, history: Json) -> Panel:
    target, table = board["objective"]["target"], _grid(3)
    window = board["window"]
    for counted in history["attainment"]:
        row = window if counted["seconds"] == window["seconds"] else counted  # one figure, not two that nearly agree
        ratio = row["good"] / row["total"] if row["total"] else math.nan
        style = "dim" if math.isnan(ratio) else "green" if ratio >= target else "red"
        shown = show_ratio(ratio)
        table.add_row(
            show_duration(row["seconds"]), Text(bar(_stretched(ratio)), style=style), Text(shown, style=style)
        )
    budget = history["budget"]
    style = "green" if budget["remaining"] > 0 else "red"
    left = f"{budget['remaining'] * 100:.1f} %"
    table.add_row("budget", Text(bar(budget["remaining"]), style=style), Text(left, style=style))
    burning = Text(f"{budget['burn']:.2f}×", style="red" if budget["burn"] > 1 else "green")
    outlook = budget["exhaustion_s"]
    table.add_row("burn", "" if outlook is None else f"gone in {show_duration(outlook)}", burning)
    return Panel(table, title=f"attainment, target {show_ratio(target)}", title_align="left", border_style="dim")


def _traffic(board: Json) -> Panel:
    window, status = board["window"], board["status"]
    cache, passes, total = window["cache"], window["passes"], window["total"]
    queued = sum(sum(model["queue_tokens"].values()) for model in status["models"])
    capacity = sum(model["capacity"]["requests_per_s"] for model in status["models"])
    table = _grid(2)
    over = show_duration(window["seconds"])
    table.add_row("requests", f"{window['rate_now']:.1f}/s now, {window['rate']:.1f}/s over {over}")
    table.add_row("capacity", f"about {capacity:.0f}/s" if capacity else "–")
    table.add_row("success", show_ratio(window["count"] / total if total else math.nan))
    table.add_row("in flight", f"{status['in_flight']}, {queued} tokens queued")
    whole = passes["passes"]
    each = f"{passes['tokens'] / whole:.1f} tokens, {passes['texts'] / whole:.1f} texts" if whole else "–"
    table.add_row("a batch", each)
    lookups = cache["hit"] + cache["miss"]
    table.add_row("cache hits", show_ratio(cache["hit"] / lookups if lookups else math.nan))
    gone = window["codes"].get("gone", 0)
    table.add_row("refused", f"{window['codes']['429']}, {gone} gave up, {window.get('deferred', 0)} deferred")
    if excluded := {name: count for name, count in window.get("excluded", {}).items() if count}:
        table.add_row("no events", ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in excluded.items()))
    for source, own in sorted(window.get("own", {}).items()):  # nobody's events, and shown all the same
        table.add_row(f"own {source}", f"{own['good']}/{own['total']} good")
    return Panel(table, title="traffic", title_align="left", border_style="dim")


def _distribution(board: Json) -> Panel:
    edges, counts = board["window"]["histogram"]["edges_ms"], board["window"]["histogram"]["counts"]
    limit, largest = board["objective"]["threshold_ms"], max([1, *counts])
    table = _grid(3)
    used = [index for index, count in enumerate(counts) if count]
    for index in range(used[0], used[-1] + 1) if used else ():
        bounded = index < len(edges)
        label = f"≤ {edges[index]:g} ms" if bounded else f"> {edges[-1]:g} ms"
        late = not bounded or edges[index] > limit
        shown = Text(bar(counts[index] / largest), style="red" if late else "blue")
        table.add_row(label, shown, f"{counts[index]}{' late' if late else ''}")
    return Panel(table, title="latency", title_align="left", border_style="dim")


def _stages(board: Json) -> Panel:
    table = _grid(3)
    stages = {name: board["window"]["stages"][name] for name in STAGES if name in board["window"]["stages"]}
    total = sum(stage["mean_ms"] for stage in stages.values()) or 1.0
    for name, stage in stages.items():
        figures = f"{_ms(stage['mean_ms'])}, P95 {_ms(stage['p95_ms'])}"
        table.add_row(name, Text(bar(stage["mean_ms"] / total, SHORT_BAR), style="blue"), figures)
    return Panel(table, title="where the time goes, mean", title_align="left", border_style="dim")


def _processes(board: Json, before: Json | None) -> Panel:
    """Memory counts shared pages by shares, so that it adds up; ≤ marks what counts them in full."""
    table = _grid(3)
    old = {process["name"]: process["cpu_s"] for process in before["status"]["processes"]} if before else {}
    seconds = board["status"]["uptime_s"] - before["status"]["uptime_s"] if before else 0.0
    processes = board["status"]["processes"]
    for process in processes:
        known = process["name"] in old and seconds > 0
        share = f"{max(0.0, process['cpu_s'] - old[process['name']]) / seconds:.0%} CPU" if known else ""
        table.add_row(process["name"], share, _memory([process]))
    if len(processes) > 1:
        table.add_row("all together", "", _memory(processes), style="bold")
    for model in board["status"]["models"]:
        for replica in model["replicas"]:
            table.add_row(replica["uid"], Text("ready", style="green"), f"{replica['tokens']} tokens in flight")
        for replica in model["absent"]:
            table.add_row(replica["uid"], Text(replica["state"], style="bold red"), "")
    return Panel(table, title="processes and replicas", title_align="left", border_style="dim")


def _memory(processes: list[Json]) -> str:
    mark = "≤ " if any(process["memory_kind"] == "resident" for process in processes) else ""
    return mark + show_bytes(sum(process["memory_bytes"] for process in processes))


def _news(history: Json) -> Panel:
    table = _grid(3, right=False)
    if history["watched"] and not history["alerts"]:
        table.add_row("", Text("no alerts", style="green"), "")
    for alert in history["alerts"][-4:]:
        style = "bold red" if alert["state"] == "firing" else ""
        table.add_row(_clock(alert["at_s"]), Text(alert["state"], style=style), alert["subject"])
    for change in history["changes"][-4:]:
        table.add_row(_clock(change["at_s"]), change["kind"], change["detail"])
    title = "alerts and changes" if history["watched"] else "changes (nobody watches: `slo watch`)"
    return Panel(table, title=title, title_align="left", border_style="dim")


def _clock(wall_s: float) -> str:
    return time.strftime("%m-%d %H:%M", time.localtime(wall_s))


def bar(share: float, width: int = BAR) -> str:
    """A bar of `width` cells, filled for its share."""
    filled = 0 if math.isnan(share) else round(min(max(share, 0.0), 1.0) * width)
    return "━" * filled + " " * (width - filled)


def block(share: float) -> str:
    """One character, as high as its share."""
    return BLOCKS[min(len(BLOCKS) - 1, max(0, math.ceil(min(share, 1.0) * (len(BLOCKS) - 1))))]


def _stretched(ratio: float) -> float:
    """What matters happens near the target: 80 % is an empty bar."""
    return (ratio - 0.8) / 0.2


def _grid(columns: int, *, right: bool = True) -> Table:
    """Without lines; with three columns the last one is for figures, `right`-aligned."""
    table = Table.grid(padding=(0, 2), expand=False)
    for index in range(columns):
        table.add_column(
            justify="right" if right and index == columns - 1 and columns > 2 else "left",
            overflow="ellipsis",
            no_wrap=True,
        )
    return table


def _ms(value: float | None) -> str:
    return "–" if value is None else show_ms(value)
