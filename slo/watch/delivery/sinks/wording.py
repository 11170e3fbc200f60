"""
The texts of a notification, brought into what a channel can show: language, length in bytes, dialect of Markdown.

Input is the small Markdown that `Notification` promises: headings, lists, bold, inline code, links.
"""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Callable
from typing import Literal

from slo.watch.model.notification import Notification

Language = Literal["zh", "en", "both"]
CUT = "\n\n[…]"  # of either language

_HEADING = re.compile(r"^#{1,6}\s+(.*)$", re.MULTILINE)
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def title_of(notification: Notification, language: Language) -> str:
    """One line without control characters: the title in the language asked for; Chinese where both are."""
    title = notification.title_en if language == "en" else notification.title_zh
    return " ".join(_CONTROL.sub(" ", title).split())


def text_of(notification: Notification, language: Language) -> str:
    """The Markdown text in the language asked for, without control characters, which a terminal would obey."""
    text = notification.text_en if language == "en" else notification.text_zh
    if language == "both":
        text = f"{notification.text_zh}\n\n---\n\n**{notification.title_en}**\n\n{notification.text_en}"
    return _CONTROL.sub(" ", text)


def utf8_cost(character: str) -> int:
    """Bytes of a character on the wire."""
    return len(character.encode("utf-8", "replace"))


def json_cost(character: str) -> int:
    """Bytes of a character within a JSON string of UTF-8, escapes included."""
    return len(json.dumps(character, ensure_ascii=False).encode("utf-8", "replace")) - 2


def cut(text: str, limit: int, cost: Callable[[str], int] = utf8_cost) -> str:
    """`text` within `limit` bytes: whole, or cut between characters, at a line end if one is near, with a notice."""
    if sum(map(cost, text)) <= limit:
        return text
    room = limit - sum(map(cost, CUT))
    if room <= 0:
        return ""
    ends = itertools.accumulate(map(cost, text))
    kept = text[: sum(1 for end in ends if end <= room)]
    line_end = kept.rfind("\n")
    if line_end > len(kept) * 0.8:
        kept = kept[:line_end]
    return kept + CUT


def bold_headings(markdown: str) -> str:
    """Headings as bold lines, for dialects without headings."""
    return _HEADING.sub(lambda match: f"**{match.group(1).replace('**', '')}**", markdown)


def lark_md(markdown: str) -> str:
    """Feishu's dialect. Its tags are escaped: in the words of others `<at id=all></at>` would call everybody."""
    return bold_headings(markdown.replace("<", "&#60;").replace(">", "&#62;"))


def slack_mrkdwn(markdown: str) -> str:
    """Slack's dialect: `*bold*`, `<url|text>`, and `&`, `<`, `>` escaped as Slack wants it."""
    escaped = markdown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    linked = _LINK.sub(r"<\2|\1>", bold_headings(escaped))
    return _BOLD.sub(r"*\1*", linked)


def plain(markdown: str) -> str:
    """For a console or a text mail: no marks, links written out."""
    text = _LINK.sub(r"\1: \2", _HEADING.sub(r"\1", markdown))
    return _CODE.sub(r"\1", _BOLD.sub(r"\1", text))


def to_html(markdown: str) -> str:
    """HTML for a mail; everything that is not of our Markdown is escaped."""
    blocks: list[str] = []
    for line in html.escape(markdown).splitlines():
        inline = _CODE.sub(r"<code>\1</code>", _BOLD.sub(r"<b>\1</b>", _LINK.sub(r'<a href="\2">\1</a>', line)))
        heading = _HEADING.match(inline)
        if heading:
            blocks.append(f"<h3>{heading.group(1)}</h3>")
        elif inline.lstrip().startswith(("- ", "* ")):
            blocks.append(f"<div>• {inline.lstrip()[2:]}</div>")
        elif inline.strip() == "---":
            blocks.append("<hr>")
        else:
            blocks.append(f"<div>{inline or '&nbsp;'}</div>")
    return "\n".join(blocks)
