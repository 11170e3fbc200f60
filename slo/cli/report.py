"""`slo report`: run records, or the watcher's history, as HTML, Markdown and PNG."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from slo.bench.compare import Comparison, compare
from slo.cli.options import Context, config_option, context, json_option
from slo.clock import SystemClock
from slo.errors import ConfigError, RunError, StoreError
from slo.files import usual_folder, write_atomically
from slo.records import Run, load_run
from slo.report.html import html_report, markdown_report
from slo.report.period import Incident, Period, PeriodSlot, RecordedChange
from slo.report.plots import Plot, main_plot
from slo.report.png import chinese_font, png
from slo.report.story import Story, tell
from slo.report.strings import LANGUAGES, Language, Words, preferred
from slo.stats import Histogram
from slo.units import parse_duration
from slo.watch.history import event_log
from slo.watch.history.event_log import HistoryEvent
from slo.watch.history.store import Store
from slo.watch.model.counts import Minute
from slo.watch.wiring import history_path, settings_of

HOUR_S, DAY_S = 3600, 86_400
HOURLY_UP_TO_S = 3 * DAY_S
LAST = "Instead of runs: how the promise was kept in the last 7d, 30d …, by `slo watch`."


def period_of(ctx: Context, length_s: float, now_s: float) -> Period:
    """The last `length_s` of the latency goal. Raises `StoreError` where there is no history."""
    settings = settings_of(ctx.config)
    goal = next(goal for goal in settings.goals if goal.kind == "latency")
    slot_s = HOUR_S if length_s <= HOURLY_UP_TO_S else DAY_S
    start_s = math.floor((now_s - length_s) / slot_s) * slot_s
    with Store(history_path(ctx.config), read_only=True) as store:
        slots = []
        for begin in range(start_s, math.ceil(now_s), slot_s):
            counts = store.counts(goal.event, begin, begin + slot_s)
            p95_ms = _p95_ms(store.minutes(begin, begin + slot_s))
            slots.append(PeriodSlot(start_s=begin, good=counts.good, total=counts.total, p95_ms=p95_ms))
        everything = store.counts(goal.event, start_s, now_s, with_maintenance=True)
        slices = store.slices(goal, start_s, now_s)
        alerts = event_log.read(store, "alert", start_s)
        done = [event for kind in ("change", "action") for event in event_log.read(store, kind, start_s)]
    return Period(
        model=ctx.config.model.id,
        objective=ctx.config.slo,
        start_s=start_s,
        end_s=now_s,
        slots=slots,
        slot_s=slot_s,
        slices=(slices.good, slices.bad, slices.unknown),
        excused=everything.total - sum(slot.total for slot in slots),
        incidents=incidents(alerts),
        changes=[_change(event) for event in sorted(done, key=lambda event: event.at_s)],
    )


def incidents(alerts: Iterable[HistoryEvent]) -> list[Incident]:
    """Alerts that fired, each with the resolution that followed it; oldest first."""
    found: list[Incident] = []
    firing: dict[str, HistoryEvent] = {}
    for event in alerts:
        if event.text == "firing":
            firing.setdefault(event.subject, event)
        elif event.text == "resolved" and event.subject in firing:
            began = firing.pop(event.subject)
            found.append(Incident(alert=event.subject, started_s=began.at_s, ended_s=event.at_s))
    found += [Incident(alert=event.subject, started_s=event.at_s, ended_s=None) for event in firing.values()]
    return sorted(found, key=lambda incident: incident.started_s)


def _p95_ms(minutes: Iterable[Minute]) -> float:
    """Of the answered requests; of those counted by the newest edges, where these were changed."""
    rows = list(minutes)
    if not rows:
        return math.nan
    total = Histogram(rows[-1].histogram.edges_s)
    for row in rows:
        if row.histogram.edges_s == total.edges_s:
            total.add(row.histogram)
    return total.quantile(0.95) * 1000


def _change(event: HistoryEvent) -> RecordedChange:
    text = f"{event.subject}: {event.text}" if event.text else event.subject
    return RecordedChange(at_s=event.at_s, text=text, author=event.author)


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]…")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file to write (default: report.html)."
)
@click.option("--markdown", is_flag=True, help="Print Markdown on stdout; writes HTML only with --out.")
@click.option("--png", "picture", type=click.Path(path_type=Path, dir_okay=False), help="Write the main plot as PNG.")
@click.option("--last", "length", metavar="PERIOD", help=LAST)
@click.option("--lang", type=click.Choice(LANGUAGES), help="Language (default: that of the system).")
@config_option
@json_option
def report(
    runs: tuple[str, ...], out: Path | None, markdown: bool, picture: Path | None, length: str | None,
    lang: Language | None, config_path: Path | None, as_json: bool,
) -> int:  # fmt: skip
    """Make a report from run records or from the history; it needs no network, and no server.

    RUN is a file, an id or its beginning, `last`, or `last:KIND`; the default is the last run. Give two or more,
    oldest first, and the first is compared with the last.

    \b
    Examples: slo report last:baseline --lang zh --out report.html --png p95.png
              slo report --last 7d --markdown
    Exit codes: 0 written, 2 no such record or history, or not writable
    """
    ctx = context(config_path, as_json=as_json)
    if length is not None and runs:
        raise ConfigError("--last reports on the history, not on runs", hint="give one of the two")
    words = Words(lang or preferred(dict(os.environ)))
    material = _runs(runs, ctx) if length is None else period_of(ctx, parse_duration(length), SystemClock().wall())
    story, written = material.story(words), dict[str, str]()
    if out is not None or not (markdown or picture):
        path = out or Path("report.html")
        usual_folder(path.parent)
        write_atomically(path, html_report(story, words))
        written["html"] = str(path)
    if picture is not None:
        # Without a font for Chinese the picture speaks English: boxes would say nothing.
        _draw(material, words if words.language == "en" or chinese_font() else Words("en"), picture)
        written["png"] = str(picture)
    if markdown:
        click.echo(markdown_report(story, words), nl=False)
    elif ctx.json:
        ctx.emit_json({**written, "runs": material.ids, "verdict": story.state})
    for kind, name in written.items():
        ctx.err.print(f"{kind} written to {name}", highlight=False)
    return 0


@dataclass(frozen=True)
class Runs:
    """Records with their comparison, ready to be told."""

    runs: Sequence[Run]
    comparison: Comparison | None

    @property
    def ids(self) -> list[str]:
        return [run.id for run in self.runs]

    def story(self, words: Words) -> Story:
        """The report."""
        return tell(self.runs, words, self.comparison)

    def plot(self, words: Words) -> Plot | None:
        """The main plot."""
        return main_plot(self.runs, words)


def _runs(references: Sequence[str], ctx: Context) -> Runs:
    found = [load_run(reference, ctx.config.state_dir) for reference in references or ("last",)]
    return Runs(found, _compared(found, ctx))


def _compared(runs: Sequence[Run], ctx: Context) -> Comparison | None:
    if len(runs) < 2:
        return None
    try:
        return compare(runs[0], runs[-1])
    except RunError as error:  # nothing in common: told apart, one below the other
        ctx.err.print(f"not compared: {error.message}", style="yellow", highlight=False)
        return None


def _draw(material: Runs | Period, words: Words, path: Path) -> None:
    """Raises `StoreError` when there is nothing to draw, or the file cannot be written."""
    plot, story = material.plot(words), material.story(words)
    if plot is None:
        raise StoreError("there is nothing to draw", hint="a run with samples or probes can be drawn")
    try:
        path.write_bytes(png(plot, title=plot.title, subtitle=" · ".join([story.sentence, *story.warnings])))
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
