"""
A report as one HTML file that needs no network: plotly's script comes from the installed package and is written in.

The content-security policy names the hashes of the two scripts in the file, so nothing else can run, and no address,
so nothing can be fetched.

And as Markdown for a pull request: the same story, plots left out, background folded away.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from slo.report.figure import figure
from slo.report.plots import Plot
from slo.report.story import Part, Story, Table
from slo.report.strings import Words

STYLE = Path(__file__).with_name("report.css")
MARKS = {"met": "✓", "missed": "✕", "unproven": "?", "void": "∅", "done": "→"}

DRAW = """
const figures = JSON.parse(document.getElementById("figures").textContent);
function drawAll() {
  const ink = getComputedStyle(document.body).color;
  for (const [id, { data, layout }] of Object.entries(figures)) {
    layout.font = { color: ink, family: "system-ui, sans-serif", size: 13 };
    Plotly.react(id, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  }
}
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("beforeprint", drawAll);
"""
SIGNS = {"met": "✅", "missed": "❌", "unproven": "❔", "void": "🚫", "done": "➡️"}


def html_report(story: Story, words: Words) -> str:
    """The whole file."""
    plots: dict[str, Plot] = {}
    body = "".join(_body(story, words, plots))
    figures = json.dumps({key: figure(plot) for key, plot in plots.items()}, ensure_ascii=False).replace("<", "\\u003c")
    scripts = [get_plotlyjs(), DRAW] if plots else []
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    language = "zh-CN" if words.language == "zh" else "en"
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(story.title)}</title>\n<style>{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"{body}\n"
        f'<script type="application/json" id="figures">{figures}</script>\n'
        + "".join(f"<script>{script}</script>\n" for script in scripts)
        + "</body>\n</html>\n"
    )


def _body(story: Story, words: Words, plots: dict[str, Plot]) -> Iterator[str]:
    yield f"<header><h1>{escape(story.title)}</h1><p class='soft'>{escape(story.subtitle)}</p></header>\n<main>\n"
    yield _banner(story.state, story.sentence, words)
    yield from (f"<p class='loud'>⚠ {escape(warning)}</p>\n" for warning in story.warnings)
    for number, part in enumerate(story.parts):
        yield from _part(part, f"part{number}", words, plots)
    yield "</main>\n<footer>" + "".join(f"<p>{escape(line)}</p>" for line in story.footer) + "</footer>"


def _banner(state: str, sentence: str, words: Words) -> str:
    return (
        f"<p class='verdict {state}'><strong><span aria-hidden='true'>{MARKS[state]}</span> "
        f"{escape(words(f'verdict.{state}'))}</strong> {escape(sentence)}</p>\n"
    )


def _part(part: Part, identity: str, words: Words, plots: dict[str, Plot]) -> Iterator[str]:
    yield f"<section><h2>{escape(part.title)}</h2>\n<p class='said {part.state}'>{escape(part.sentence)}</p>\n"
    yield from (f"<p class='loud'>⚠ {escape(warning)}</p>\n" for warning in part.warnings)
    yield from (_table(table) for table in part.tables)
    yield "<div class='plots'>\n"
    for plot in part.plots:
        key = f"{identity}-{plot.key}"
        plots[key] = plot
        note = f"<figcaption class='soft'>{escape(plot.note)}</figcaption>" if plot.note else ""
        title = escape(plot.title)
        yield f"<figure><h3>{title}</h3><div id='{key}' role='img' aria-label='{title}'></div>{note}</figure>\n"
    yield "</div>\n"
    if part.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in part.notes)
        yield f"<h3>{escape(words('notes'))}</h3><ul>{items}</ul>\n"
    yield "<div class='background'>" + "".join(_table(table) for table in part.background) + "</div>\n"
    if part.command:
        yield f"<h3>{escape(words('repeat'))}</h3><pre>{escape(part.command)}</pre>\n"
    yield "</section>\n"


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(
        f"<tr><th scope='row'>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>"
        for first, *others in table.rows
    )
    return (
        f"<div class='table' tabindex='0' role='region' aria-label='{escape(table.title)}'><table>"
        f"<caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>\n"
        + (f"<p class='soft note'>{escape(table.note)}</p>\n" if table.note else "")
    )


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def markdown_report(story: Story, words: Words) -> str:
    """The text; ends with a newline."""
    return "\n".join([*_lines(story, words)]).rstrip() + "\n"


def _lines(story: Story, words: Words) -> Iterator[str]:
    yield from (f"# {_plain(story.title)}", "", _plain(story.subtitle), "")
    yield from (f"**{SIGNS[story.state]} {words(f'verdict.{story.state}')}** {_plain(story.sentence)}", "")
    for warning in story.warnings:
        yield from (f"> ⚠️ {_plain(warning)}", "")
    for part in story.parts:
        yield from _markdown_part(part, words)
    yield from ("---", "")
    yield from (f"<sub>{_plain(line)}</sub>  " for line in story.footer)


def _markdown_part(part: Part, words: Words) -> Iterator[str]:
    yield from (f"## {_plain(part.title)}", "", f"{SIGNS[part.state]} {_plain(part.sentence)}", "")
    for warning in part.warnings:
        yield from (f"> ⚠️ {_plain(warning)}", "")
    for table in part.tables:
        yield from _markdown_table(table)
    if part.notes:
        yield f"**{words('notes')}**"
        yield ""
        yield from (f"- {_plain(note)}" for note in part.notes)
        yield ""
    if part.background:
        summary = " · ".join(table.title for table in part.background)
        yield from (f"<details><summary>{_plain(summary)}</summary>", "")
        for table in part.background:
            yield from _markdown_table(table)
        yield from ("</details>", "")
    if part.command:
        yield from (f"**{words('repeat')}**", "", "```sh", part.command, "```", "")


def _markdown_table(table: Table) -> Iterator[str]:
    yield from (f"**{_plain(table.title)}**", "")
    yield "| " + " | ".join(_cell(cell) for cell in table.head) + " |"
    yield "| " + " | ".join("---" if i == 0 else "---:" for i in range(len(table.head))) + " |"
    yield from ("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows)
    yield ""
    if table.note:
        yield from (_plain(table.note), "")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """On one line, and with nothing that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", " ".join(text.split()))
