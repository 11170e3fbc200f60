"""
What a server says when it gives no embedding: an error code, and its words without the texts that were sent.

Records and reports keep one example of each kind of failure, and a record holds no text. A server's message may
quote it, whole, in part or escaped: whatever message and text have in common is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

LONGEST = 300  # characters of a message
LEAST = 4  # characters in a row that a message and a text have in common by more than chance
LEAST_ASCII = 10  # the same for letters, of which ordinary words are made
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_IDS = re.compile(r"\[\s*\d+(?:\s*,\s*\d+)*\s*\]")


def complaint_of(content: bytes) -> tuple[str, str]:
    """Error code and message of the body of a failure, in OpenAI's shape, FastAPI's or any other; "" where none."""
    try:
        data: Any = orjson.loads(content)
    except ValueError:
        return "", _one_line(content.decode("utf-8", "replace"))
    if not isinstance(data, dict):
        return "", _one_line(str(data))
    inner = data.get("error")
    error: dict[str, Any] = inner if isinstance(inner, dict) else data
    detail = error.get("message", error.get("detail", error.get("error", "")))
    code = error.get("code") or error.get("type") or ""
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):  # FastAPI's validation
        code, detail = code or detail[0].get("type", ""), f"{detail[0].get('loc', '')} {detail[0].get('msg', '')}"
    return str(code)[:60], _one_line(str(detail))


def without_texts(message: str, texts: Iterable[Any], secrets: Sequence[str] = ()) -> str:
    """`message` with … for what it has in common with a text, for lists of token ids, and for `secrets`."""
    shown = _IDS.sub("[…]", _ESCAPED.sub(lambda found: chr(int(found[1], 16)), message))
    for secret in secrets:
        shown = shown.replace(secret, "…") if secret else shown
    for text in texts:
        if isinstance(text, str):
            shown = _without(shown, text)
    return re.sub(r"…[…\s]*…", "…", shown)[:LONGEST]


def texts_of(body: bytes) -> list[Any]:
    """The texts of a request's body, or their token ids."""
    given = orjson.loads(body).get("input", []) if body else []
    return given if isinstance(given, list) and not all(isinstance(part, int) for part in given) else [given]


def _without(message: str, text: str) -> str:
    if text.strip() and len(text) < LEAST:
        return re.sub(rf"\b{re.escape(text)}\b", "…", message) if text.isascii() else message.replace(text, "…")
    found, place = [], 0
    while place < len(message):
        length = 0
        while place + length < len(message) and message[place : place + length + 1] in text:
            length += 1
        part = message[place : place + length]
        if length >= (LEAST_ASCII if part.isascii() and length < len(text) else LEAST):
            found.append("…")
            place += length
        else:
            found.append(message[place])
            place += 1
    return "".join(found)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]
