"""A plot as plotly's JSON: data and layout. Colours that depend on the reader's theme are set by the page."""

from __future__ import annotations

from html import escape
from typing import Any

from slo.report.plots import Plot, PlotTrace, Tone

COLOURS: dict[Tone, str] = {
    "main": "#2f6fd0", "soft": "#8d99a8", "good": "#12895f", "bad": "#cf3a30", "warn": "#c98500", "a": "#e08a2e",
    "b": "#17998a", "c": "#9a55c9", "d": "#c74a80",
}  # fmt: skip
GRID = "rgba(128,140,155,.22)"
SYMBOLS: dict[Tone, str] = {"good": "circle", "bad": "x", "warn": "diamond"}  # not by colour alone


def figure(plot: Plot) -> dict[str, Any]:
    """`{"data": …, "layout": …}`; texts are escaped, since plotly reads some markup in them."""
    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "automargin": True}
    layout: dict[str, Any] = {
        "xaxis": {**axis, "title": {"text": escape(plot.x_title)}},
        "yaxis": {**axis, "title": {"text": escape(plot.y_title)}, "rangemode": "tozero"},
        "barmode": "stack" if plot.stacked else "group",
        "bargap": 0.06 if plot.stacked else 0.3,
        "margin": {"l": 60, "r": 24, "t": 16, "b": 48},
        "height": 360,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.12},
        "hovermode": "closest" if any(trace.kind == "points" for trace in plot.traces) else "x unified",
        "showlegend": len(plot.traces) > 1,
        "shapes": [],
        "annotations": [],
    }
    if plot.x_range is not None:
        layout["xaxis"]["range"] = list(plot.x_range)
    if plot.limit is not None:
        _draw_limit(layout, plot, plot.limit)
    return {"data": [_trace(trace) for trace in plot.traces], "layout": layout}


def _trace(trace: PlotTrace) -> dict[str, Any]:
    colour = COLOURS[trace.tone]
    data: dict[str, Any] = {
        "name": escape(trace.name),
        "x": [escape(value) if isinstance(value, str) else value for value in trace.x],
        "y": list(trace.y),
    }
    match trace.kind:
        case "bars":
            data |= {"type": "bar", "marker": {"color": colour}}
        case "points":
            marker = {"color": colour, "size": 11, "symbol": SYMBOLS.get(trace.tone, "circle")}
            data |= {"type": "scatter", "mode": "markers", "marker": marker}
        case "line":
            data |= {"type": "scatter", "mode": "lines", "line": {"color": colour, "width": 2.5}}
        case "dotted":
            data |= {"type": "scatter", "mode": "lines", "line": {"color": colour, "width": 1.6, "dash": "dot"}}
    if trace.low and trace.high:
        bounds = list(zip(trace.y, trace.low, trace.high, strict=True))
        above = [high - y if y is not None and high is not None else None for y, _, high in bounds]
        below = [y - low if y is not None and low is not None else None for y, low, _ in bounds]
        data["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.4}
    return data


def _draw_limit(layout: dict[str, Any], plot: Plot, limit: float) -> None:
    across = {"type": "line", "line": {"color": COLOURS["bad"], "width": 2, "dash": "dash"}}
    label = {"text": escape(plot.limit_label), "showarrow": False, "font": {"color": COLOURS["bad"]}}
    if plot.limit_on == "y":
        layout["shapes"].append({**across, "xref": "paper", "x0": 0, "x1": 1, "y0": limit, "y1": limit})
        layout["annotations"].append(
            {**label, "xref": "paper", "x": 1, "xanchor": "right", "y": limit, "yanchor": "bottom"}
        )
    else:
        layout["shapes"].append({**across, "yref": "paper", "y0": 0, "y1": 1, "x0": limit, "x1": limit})
        layout["annotations"].append(
            {**label, "yref": "paper", "y": 1, "yanchor": "top", "x": limit, "xanchor": "left"}
        )
