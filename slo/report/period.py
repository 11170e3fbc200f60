"""
The report on a week or a month of keeping the promise: attainment with its interval, budget, incidents, what changed.

`Period` is plain data; whoever has the history fills it in. Percentiles come from stored histograms: estimates within
a bucket, for display. Attainment and budget come from counts and are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from slo import __version__
from slo.clock import iso
from slo.objective import Objective, judge
from slo.report.plots import Plot, PlotTrace
from slo.report.story import Part, Story, Table
from slo.report.strings import Words
from slo.stats import wilson
from slo.units import show_duration, show_ms, show_ratio

MOST_ROWS = 40
DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class PeriodSlot:
    """An hour or a day: requests, good ones, and the P95 of the answered ones (NaN without any)."""

    start_s: float
    good: int
    total: int
    p95_ms: float


@dataclass(frozen=True, kw_only=True)
class Incident:
    """An alert that fired; it still does where `ended_s` is None."""

    alert: str
    started_s: float
    ended_s: float | None


@dataclass(frozen=True, kw_only=True)
class RecordedChange:
    """Something that was done, by a person or automatically."""

    at_s: float
    text: str
    author: str


@dataclass(frozen=True, kw_only=True)
class Period:
    """What a history holds of `[start_s, end_s)`. `slices` are five-minute windows met, missed and unknown."""

    model: str
    objective: Objective
    start_s: float
    end_s: float
    slots: Sequence[PeriodSlot]
    slot_s: int
    slices: tuple[int, int, int]
    excused: int
    incidents: Sequence[Incident]
    changes: Sequence[RecordedChange]
    stand_in: bool = False

    @property
    def ids(self) -> list[str]:
        """No run was reported on."""
        return []

    def story(self, words: Words) -> Story:
        """The report."""
        return tell_period(self, words)

    def plot(self, words: Words) -> Plot | None:
        """P95 over the days."""
        return p95_plot(self, words)

    @property
    def good(self) -> int:
        return sum(slot.good for slot in self.slots)

    @property
    def total(self) -> int:
        return sum(slot.total for slot in self.slots)

    @property
    def remaining(self) -> float:
        """Share of the error budget of these requests that is left; negative once overspent."""
        return 1 - (self.total - self.good) / (self.objective.budget * self.total) if self.total else 1.0


def tell_period(period: Period, words: Words) -> Story:
    """The report on one period."""
    judgement = judge(period.good, period.total, period.objective)
    state = judgement.verdict.value
    sentence = words(f"says.{state}", objective=period.objective, confidence=f"{period.objective.confidence:.0%}")
    span = f"{iso(period.start_s)[:16].replace('T', ' ')} – {iso(period.end_s)[:16].replace('T', ' ')} UTC"
    plot = p95_plot(period, words)
    part = Part(
        title=span,
        state=state,
        sentence=sentence,
        tables=[_attainment(period, words), *_events(period, words), _slots(period, words)],
        plots=[plot] if plot else [],
    )
    return Story(
        title=f"{period.model} · {words('period.title')}",
        subtitle=f"{period.objective} · {span}",
        state=state,
        sentence=sentence,
        parts=[part],
        warnings=[words("stand_in")] if period.stand_in else [],
        footer=[words("period.rule"), words("made.history", tool=f"xinference-slo {__version__}")],
    )


def _attainment(period: Period, words: Words) -> Table:
    bad = period.total - period.good
    low, high = wilson(bad, period.total)
    met, missed, unknown = period.slices
    judged = met + missed
    rows = [
        [words("soak.requests"), f"{period.total:,}"],
        [words("soak.attainment"), show_ratio(period.good / period.total if period.total else math.nan)],
        [words("interval"), f"{show_ratio(1 - high)} – {show_ratio(1 - low)}" if period.total else "–"],
        [words("soak.slices"), f"{show_ratio(met / judged if judged else math.nan)} ({met}/{judged})"],
        [words("period.unknown"), str(unknown)],
        [words("period.late"), f"{bad:,}"],
        [words("period.budget"), f"{period.remaining * 100:.1f} %"],
        [words("period.incidents"), str(len(period.incidents))],
    ]
    if period.excused:
        rows.append([words("period.excused"), f"{period.excused:,}"])
    return Table(title=words("summary"), head=[words("quantity"), words("value")], rows=rows)


def _events(period: Period, words: Words) -> list[Table]:
    tables = []
    if period.incidents:
        head = [words("period.alert"), words("period.began"), words("period.lasted")]
        rows = [
            [one.alert, iso(one.started_s)[:19].replace("T", " "),
             words("period.still") if one.ended_s is None else show_duration(round(one.ended_s - one.started_s))]
            for one in period.incidents
        ]  # fmt: skip
        tables.append(Table(title=words("period.incidents"), head=head, rows=rows))
    if period.changes:
        head = [words("period.what"), words("period.when"), words("period.who")]
        rows = [[one.text, iso(one.at_s)[:19].replace("T", " "), one.author] for one in period.changes]
        tables.append(Table(title=words("period.changes"), head=head, rows=rows))
    return tables


def _slots(period: Period, words: Words) -> Table:
    """Each hour or day; only the worst ones of a long row of hours."""
    rows = sorted(period.slots, key=lambda slot: slot.good / slot.total if slot.total else 1.0)[:MOST_ROWS]
    length = 10 if period.slot_s >= DAY_S else 16
    return Table(
        title=words("period.by_day" if period.slot_s >= DAY_S else "period.by_hour"),
        head=[words("period.when"), words("probes.requests"), words("good"), "P95", words("period.late")],
        rows=[
            [iso(slot.start_s)[:length].replace("T", " "), f"{slot.total:,}",
             show_ratio(slot.good / slot.total if slot.total else math.nan), show_ms(slot.p95_ms),
             str(slot.total - slot.good)]
            for slot in sorted(rows, key=lambda slot: slot.start_s)
        ],
    )  # fmt: skip


def p95_plot(period: Period, words: Words) -> Plot | None:
    """P95 by hour or day; None for less than two of them."""
    drawn = [slot for slot in period.slots if slot.total]
    if len(drawn) < 2:
        return None
    days = [round((slot.start_s - period.start_s) / DAY_S, 3) for slot in period.slots]
    values = [round(slot.p95_ms, 1) if math.isfinite(slot.p95_ms) else None for slot in period.slots]
    limit = period.objective.threshold_ms
    return Plot(
        key="period", title=words("over_time"), x_title=words("axis.days"), y_title=words("axis.p95"),
        traces=[PlotTrace(name="P95", kind="line", x=days, y=values)], limit=limit,
        limit_label=words("limit", ms=f"{limit:g}"),
    )  # fmt: skip
