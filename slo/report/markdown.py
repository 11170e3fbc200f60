"""A report as Markdown for a pull request: the same story, plots left out, background folded away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from slo.report.story import Part, Story, Table
from slo.report.strings import Words

MARKS = {"met": "✅", "missed": "❌", "unproven": "❔", "void": "🚫", "done": "➡️"}


def markdown_report(story: Story, words: Words) -> str:
    """The text; ends with a newline."""
    return "\n".join([*_lines(story, words)]).rstrip() + "\n"


def _lines(story: Story, words: Words) -> Iterator[str]:
    yield from (f"# {_plain(story.title)}", "", _plain(story.subtitle), "")
    yield from (f"**{MARKS[story.state]} {words(f'verdict.{story.state}')}** {_plain(story.sentence)}", "")
    for warning in story.warnings:
        yield from (f"> ⚠️ {_plain(warning)}", "")
    for part in story.parts:
        yield from _part(part, words)
    yield from ("---", "")
    yield from (f"<sub>{_plain(line)}</sub>  " for line in story.footer)


def _part(part: Part, words: Words) -> Iterator[str]:
    yield from (f"## {_plain(part.title)}", "", f"{MARKS[part.state]} {_plain(part.sentence)}", "")
    for warning in part.warnings:
        yield from (f"> ⚠️ {_plain(warning)}", "")
    for table in part.tables:
        yield from _table(table)
    if part.notes:
        yield f"**{words('notes')}**"
        yield ""
        yield from (f"- {_plain(note)}" for note in part.notes)
        yield ""
    if part.background:
        summary = " · ".join(table.title for table in part.background)
        yield from (f"<details><summary>{_plain(summary)}</summary>", "")
        for table in part.background:
            yield from _table(table)
        yield from ("</details>", "")
    if part.command:
        yield from (f"**{words('repeat')}**", "", "```sh", part.command, "```", "")


def _table(table: Table) -> Iterator[str]:
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
