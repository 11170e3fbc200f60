"""
A file of one's own texts, sent as it stands: a batch stays a batch, token ids stay token ids, an id stays a name.

* `.txt` and all others: a text per line.
* `.tsv`: `id<TAB>text`; the id is not sent, it names the request where one failed.
* `.jsonl`, `.ndjson`, `.json`: per line a JSON string, or an object with `text` or `input` as OpenAI's API takes it (a
  text, texts, token ids, lists of token ids), at the top or under `body`; `id`, `_id` or `custom_id` names it.

No request is sent twice before all were sent, whatever part of a measurement asks: a cache would answer. After that,
and where a text of the file repeats an earlier one, requests carry `Cache-Control: no-cache`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slo.errors import ConfigError

JSON_LINES = (".jsonl", ".ndjson", ".json")
NAMES = ("id", "_id", "custom_id")

Content = str | tuple[int, ...]  # a text, or its token ids


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """The inputs of one request. `single`: not in a list of its own; `name`: its id, else `line 3`."""

    inputs: tuple[Content, ...]
    single: bool
    name: str


class OwnTexts:
    """The requests of a file in their order, with a place that all parts of a measurement share."""

    def __init__(self, requests: Sequence[OwnRequest], *, batch: int = 1) -> None:
        """`batch` texts go into one request, if more than one. Raises `ConfigError` where the file has batches."""
        if batch > 1:
            if not all(request.single and isinstance(request.inputs[0], str) for request in requests):
                raise ConfigError("the file has batches or token ids, sent as they are", hint="leave out --batch")
            requests = [_joined(requests[n : n + batch]) for n in range(0, len(requests), batch)]
        self.requests = tuple(requests)
        self.digest = hashlib.sha256(repr([r.inputs for r in self.requests]).encode()).hexdigest()[:16]
        self.sent = 0
        self.repeated = 0  # of those sent
        self._repeats = _repeats(self.requests)

    def __len__(self) -> int:
        return len(self.requests)

    def take(self) -> tuple[OwnRequest, bool]:
        """The next request, and whether a text of it was sent before."""
        place = self.sent % len(self.requests)
        known = self.sent >= len(self.requests) or self._repeats[place]
        self.sent += 1
        self.repeated += known
        return self.requests[place], known

    def advance(self, sent: int) -> None:
        """Go on after `sent` requests of an earlier session."""
        self.sent += sent


def read_texts(path: Path, *, batch: int = 1) -> OwnTexts:
    """The texts in `path`. Raises `ConfigError` naming the line that holds none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: U+2028 may stand within a text
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    read = _json_line if path.suffix in JSON_LINES else _tsv_line if path.suffix == ".tsv" else _plain_line
    found = [
        request
        for number, line in enumerate(lines, start=1)
        if line.strip()
        for request in read(line, f"line {number}", f"{path}:{number}")
    ]
    if not found:
        raise ConfigError("holds no texts", where=str(path))
    return OwnTexts(found, batch=batch)


def _plain_line(line: str, name: str, _where: str) -> Iterator[OwnRequest]:
    yield OwnRequest((line.strip(),), True, name)


def _tsv_line(line: str, name: str, where: str) -> Iterator[OwnRequest]:
    columns = line.rstrip("\r").split("\t")
    if len(columns) > 2 or not columns[-1].strip():
        raise ConfigError(f"{len(columns)} columns, or no text", where=where, hint="write id<TAB>text")
    yield OwnRequest((columns[-1],), True, columns[0] if len(columns) == 2 else name)


def _json_line(line: str, name: str, where: str) -> Iterator[OwnRequest]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}", where=where) from error
    if isinstance(row, dict):
        name = next((str(row[key]) for key in NAMES if row.get(key) is not None), name)
        body = row.get("body")
        inner: dict[str, Any] = body if isinstance(body, dict) else row
        row = inner.get("text", inner.get("input"))
    request = _request(row, name)
    if request is None:
        raise ConfigError(
            "holds no text", where=where, hint='write {"text": "…"}, {"input": ["…", "…"]} or a JSON string'
        )
    yield request


def _request(value: Any, name: str) -> OwnRequest | None:
    """What OpenAI's `input` may be; None for anything else."""
    single = isinstance(value, str) or _is_ids(value)
    parts = [value] if single else value
    if not isinstance(parts, list) or not parts:
        return None
    if all(isinstance(part, str) and part for part in parts):
        return OwnRequest(tuple(parts), single, name)
    if all(map(_is_ids, parts)):
        return OwnRequest(tuple(tuple(part) for part in parts), single, name)
    return None


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(part) is int and part >= 0 for part in value)


def _joined(requests: Sequence[OwnRequest]) -> OwnRequest:
    return OwnRequest(tuple(request.inputs[0] for request in requests), False, f"{requests[0].name} ff.")


def _repeats(requests: Sequence[OwnRequest]) -> list[bool]:
    """Per request: does an earlier one hold one of its texts?"""
    seen: set[Content] = set()
    found = []
    for request in requests:
        found.append(not seen.isdisjoint(request.inputs))
        seen.update(request.inputs)
    return found
