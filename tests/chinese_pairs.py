"""
Real Chinese pairs for retrieval: what a manual page is about, and how its description begins.

From Debian's package manpages-zh, translated by people over twenty years: "列出目录内容" belongs to the passage
"列出指定“文件”（默认为当前目录）的信息…". `scripts/install-test-tools.sh` installs it.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MANUALS = Path("/usr/share/man/zh_CN")
NAME, DESCRIPTION = re.compile(r"名\s*[称字]|NAME|^名$"), re.compile(r"描\s*[述叙]|说\s*明|DESCRIPTION|OVERVIEW")
CHINESE = re.compile("[\u4e00-\u9fff]")
REQUEST = re.compile(r"""[.'](?:\\"|[A-Za-z]{2}\s*$|TP|sp|in|nf|fi|if|ie)""")
PASSAGE_CHARACTERS = 150


def chinese_pairs() -> list[tuple[str, str]]:
    """Questions and their passages, each text once."""
    if not MANUALS.is_dir():
        pytest.fail("no Chinese manual pages: run scripts/install-test-tools.sh")
    found: dict[str, str] = {}
    passages: set[str] = set()
    for path in sorted(MANUALS.glob("man*/*.gz")):
        for query, passage in _pair(gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")):
            if query not in found and passage not in passages:
                found[query] = passage
                passages.add(passage)
    return list(found.items())


def _pair(page: str) -> Iterator[tuple[str, str]]:
    """The pair of one page; none where the page is only a reference, or not translated."""
    sections = re.split(r"^\.S[Hh]\s*", page, flags=re.MULTILINE)[1:]
    texts = {section.partition("\n")[0].strip().strip('"'): section.partition("\n")[2] for section in sections}
    name = next((text for title, text in texts.items() if NAME.search(title)), "")
    description = next((text for title, text in texts.items() if DESCRIPTION.search(title)), "")
    query = re.split(r"\s(?:-|—|–)+\s*", _plain(name), maxsplit=1)[-1]
    passage = _plain(description)[:PASSAGE_CHARACTERS]
    if len(CHINESE.findall(query)) >= 4 and len(CHINESE.findall(passage)) >= 20:
        yield query, passage


def _plain(roff: str) -> str:
    """Text without roff's requests and escapes."""
    lines = [
        line
        for line in roff.splitlines()
        if not re.match(r"""[.'](?:\\"|[A-Za-z]{2}\s*$|TP|sp|in|nf|fi|if|ie)""", line)
    ]
    text = " ".join(re.sub(r"^[.'][A-Za-z]{1,2}\s+", "", line) for line in lines)
    text = re.sub(r"\\f(?:\[[A-Z]*\]|\([A-Z]{2}|[A-Z0-9])|\\s[-+]?\d|\\[&|/,^c]|\\\*\([a-z]{2}", "", text)
    text = text.replace("\\-", "-").replace("\\(aq", "'").replace("\\(bu", "").replace("\\e", "\\")
    return re.sub(r"\s+", " ", text).replace('"', "").strip()
