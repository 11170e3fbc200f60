"""The figures of `bench.py` as a Markdown table: medians over repeated runs, from the records alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from scripts.bench_side import Memory, Side
from slo.objective import Objective
from slo.records import Run
from slo.stats import nearest_rank

CLASSES = ("short", "medium", "long")
STOCK_RATE = 5.0  # requests per second; stock's queue would take minutes to recover from the rate that ours is asked
Figure = Callable[[Run], float]


def p95_of_classes(runs: list[Run]) -> list[float]:
    """P95 in ms per length class: the median over the runs."""
    per_run = [{summary.name: summary.p95_ms for summary in run.summaries()} for run in runs]
    return [statistics.median([figures[name] for figures in per_run] or [math.nan]) for name in CLASSES]


def answered_per_s(run: Run) -> float:
    """Requests answered per second of the run."""
    overall = run.summaries()[-1]
    return (overall.total - overall.failed) / _seconds(run)


def good_per_s(run: Run) -> float:
    """Requests answered within the objective per second of the run: goodput."""
    return run.summaries()[-1].judgement.good / _seconds(run)


def p95_where(run: Run, outcome: str) -> float:
    """P95 in ms over the requests that ended so; NaN for none."""
    return nearest_rank(sorted(s.latency_ms for s in run.samples if s.outcome == outcome), 0.95)


def good_where_accepted(run: Run) -> float:
    """The share within 150 ms of what was not refused."""
    accepted = [s for s in run.samples if s.outcome != "refused"]
    return sum(s.good(Objective()) for s in accepted) / len(accepted) if accepted else math.nan


def _seconds(run: Run) -> float:
    soak = run.details.get("soak")
    if soak:  # its samples are a selection
        return float(soak["seconds"])
    return max(s.due_s for s in run.samples) - min(s.due_s for s in run.samples)


def table(stock: Side, ours: Side, memory: dict[str, Memory], limits: dict[str, Any], rate: float) -> list[str]:
    """Lines of Markdown."""
    rows: list[tuple[str, ...]] = []

    def both(name: str, step: str, figure: Figure, form: str = ".1f") -> None:
        rows.append((name, *(_shown(side, step, figure, form) for side in (stock, ours))))

    before, after = (p95_of_classes(side.runs.get("baseline", [])) for side in (stock, ours))
    for name, was, now in zip(CLASSES, before, after, strict=True):
        rows.append((f"one client, {name} texts: P95 ms", f"{was:.1f}", f"{now:.1f} ({was / now:.1f} × less)"))
    both("50 closed-loop clients, everybody let in: answers/s", "crowd", answered_per_s)
    both("50 closed-loop clients, everybody let in: P95 ms", "crowd", lambda run: p95_where(run, "ok"), ".0f")
    both("50 closed-loop clients, default: answers/s within 150 ms", "stress", good_per_s)
    both("50 closed-loop clients, default: P95 of answers, ms", "stress", lambda run: p95_where(run, "ok"), ".0f")
    both("50 closed-loop clients, default: failed or refused", "stress", _failed, ".1%")
    asked = f"open loop, Poisson, {STOCK_RATE:g}/s and {rate:g}/s"
    both(f"{asked}: P95 ms, failures counted", "load", _p95, ".0f")
    both(f"{asked}: within 150 ms", "load", _good, ".1%")
    both("capacity: highest Poisson rate proven to hold P95 ≤ 150 ms, per s", "capacity", _capacity)
    for kind in CLASSES:
        both(f"the same, {kind} texts alone", "capacity", partial(_capacity, kind=kind))
    both("largest of 1, 2, 5, 10, 20, 50 closed-loop clients that hold it", "capacity", _largest, ".0f")
    both("cache hits: P95 ms", "cached", lambda run: cached.p95_ms if (cached := run.cached()) else math.nan, ".2f")
    both(f"{3 * rate:g}/s offered: P95 of accepted, ms", "overload", lambda run: p95_where(run, "ok"), ".0f")
    both(f"{3 * rate:g}/s offered: accepted that were within 150 ms", "overload", good_where_accepted, ".1%")
    both(f"{3 * rate:g}/s offered: answers/s within 150 ms", "overload", good_per_s)
    both(f"{3 * rate:g}/s offered: P95 of refusals, ms", "overload", lambda run: p95_where(run, "refused"))
    both("5 s after that: within 150 ms", "after", _good, ".1%")
    rows.append(("start to verdict, s", f"{stock.start_s:.1f}", f"{ours.start_s:.1f}"))
    for field, name in (("model", "memory of the model process, MiB (PSS)"), ("model_rss", "the same, RSS"),
                        ("server", "memory of all processes, MiB (PSS)")):  # fmt: skip
        rows.append((name, *(f"{getattr(memory[side.name], field):.0f}" for side in (stock, ours))))
    lines = ["| | stock Xinference 4.1.0 | xinference-slo |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    if limits:
        lines += ["", f"The machine's roof: {limits['gop_per_s']:.0f} GOP/s in int8 matrix products of the model's "
                      f"shapes, which is {limits['requests_per_s']:.0f} requests/s of the mix."]  # fmt: skip
    return lines


def _shown(side: Side, step: str, figure: Figure, form: str) -> str:
    if step not in side.runs:
        return "–"
    value = statistics.median(figure(run) for run in side.runs[step])
    return "–" if math.isnan(value) else f"{value:{form}}"


def _p95(run: Run) -> float:
    return run.summaries()[-1].p95_ms


def _good(run: Run) -> float:
    return run.summaries()[-1].judgement.good_ratio


def _failed(run: Run) -> float:
    return 1 - run.summaries()[-1].success_ratio


def _capacity(run: Run, kind: str = "mix") -> float:
    search = run.details["searches"].get(kind)
    if search is None or (search["best"] and not search["confirmed"]):
        return math.nan
    return float(search["rate"])


def _largest(run: Run) -> float:
    return float(run.details["ladder"]["largest"]) if "ladder" in run.details else math.nan
