"""`slo report`: run records, or the watcher's history, as HTML, Markdown and PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from slo.bench.compare import Comparison, compare
from slo.cli.options import Context, config_option, context, json_option
from slo.cli.period import period_of
from slo.clock import SystemClock
from slo.errors import ConfigError, RunError, StoreError
from slo.files import usual_folder, write_atomically
from slo.records import Run, load_run
from slo.report.html import html_report
from slo.report.markdown import markdown_report
from slo.report.period import Period
from slo.report.plots import Plot, main_plot
from slo.report.png import chinese_font, png
from slo.report.story import Story, tell
from slo.report.strings import LANGUAGES, Language, Words, preferred
from slo.units import parse_duration

LAST = "Instead of runs: how the promise was kept in the last 7d, 30d …, by `slo watch`."


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
