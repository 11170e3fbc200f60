"""
How a record lies in a file: samples as columns instead of rows, and the digest over all of it.

A row of JSON takes some 75 bytes, a row of these columns about 8. Times are whole steps of 0.1 µs: `due` as the
difference from the row before, `lag` (due → dispatched), `wait` (dispatched → sent) and `stay` (due → done) as spans;
64-bit little-endian, the first bytes of all numbers, then all second ones and so on, zlib, base64. Nothing is rounded
that a record had not rounded before, so both forms have one digest: SHA-256 over the row form without `digest`, as
JSON with sorted keys, without spaces, every number that is not finite as null.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import sys
import zlib
from array import array
from collections.abc import Callable, Sequence
from typing import Any

STEPS = 10_000_000  # per second
MISSING = -(1 << 63)  # no such time
SPANS = ("lag", "wait", "stay")
NESTED = "confirmations"  # in `details`: records within a record

Row = list[Any]
Data = dict[str, Any]


def quantised(seconds: float) -> float:
    """The time as a record has it."""
    return round(seconds, 7)


def packed(data: Data) -> Data:
    """A record in column form, those inside it as well."""
    return _with_samples(data, pack_rows)


def unpacked(data: Data) -> Data:
    """A record in row form. Raises `ValueError` when columns are damaged."""
    return _with_samples(data, lambda given: unpack_rows(given) if isinstance(given, dict) else given)


def digest_of(data: Data) -> str:
    """SHA-256 of a record in row form, in hexadecimal."""
    bare = {key: value for key, value in data.items() if key != "digest"}
    text = json.dumps(finite(bare), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def finite(value: Any) -> Any:
    """Plain data with null for every number that JSON does not know."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


def pack_rows(rows: Sequence[Row]) -> Data:
    """Rows `[due, sent, done, outcome, class, cached, dispatched]` as columns; the last may be missing or None."""
    due, sent, done = ([_steps(row[place]) for row in rows] for place in (0, 1, 2))
    dispatched = [_steps(row[6]) if len(row) > 6 else MISSING for row in rows]
    outcomes, classes = (list(dict.fromkeys(row[place] for row in rows)) for place in (3, 4))
    known = dispatched if any(value != MISSING for value in dispatched) else due
    return {
        "rows": len(rows),
        "outcomes": outcomes,
        "classes": classes,
        "dispatched": known is dispatched,
        "due": _packed_numbers([b - a for a, b in zip([0, *due], due, strict=False)]),
        "lag": _packed_numbers(_spans(due, known)),
        "wait": _packed_numbers(_spans(known, sent)),
        "stay": _packed_numbers(_spans(due, done)),
        "outcome": _packed_numbers([outcomes.index(row[3]) for row in rows]),
        "class": _packed_numbers([classes.index(row[4]) for row in rows]),
        "cached": _packed_numbers([int(row[5]) for row in rows]),
    }


def unpack_rows(data: Data) -> list[Row]:
    """The rows that `pack_rows` was given. Raises `ValueError` when they are damaged."""
    try:
        steps, at = list[int](), 0
        for step in _numbers(data["due"]):
            at += step
            steps.append(at)
        columns = [_numbers(data[name]) for name in (*SPANS, "outcome", "class", "cached")]
        rows = []
        for due, lag, wait, stay, outcome, name, cached in zip(steps, *columns, strict=True):
            dispatched = _after(due, lag)
            row = [_seconds(due), _seconds(_after(dispatched, wait)), _seconds(_after(due, stay)),
                   data["outcomes"][outcome], data["classes"][name], bool(cached)]  # fmt: skip
            rows.append([*row, _seconds(dispatched)] if data["dispatched"] else row)
        if len(rows) != data["rows"]:
            raise ValueError(f"{len(rows)} rows instead of {data['rows']}")
    except (KeyError, IndexError, TypeError, zlib.error) as error:
        raise ValueError(f"columns of samples are damaged ({error!r})") from error
    return rows


def pack_bytes(values: bytes) -> str:
    """zlib, base64."""
    return base64.b64encode(zlib.compress(values, 9)).decode("ascii")


def unpack_bytes(text: str) -> bytes:
    """What `pack_bytes` was given. Raises `ValueError` when it is damaged."""
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(f"not what was packed ({error})") from error


def _with_samples(data: Data, form: Callable[[Any], Any]) -> Data:
    details = data.get("details", {})
    if NESTED in details:
        parts = [part | {"run": _with_samples(part["run"], form)} for part in details[NESTED]]
        data = data | {"details": details | {NESTED: parts}}
    return data | {"samples": form(data["samples"])} if "samples" in data else data


def _packed_numbers(values: Sequence[int]) -> str:
    numbers = array("q", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    raw = numbers.tobytes()
    return pack_bytes(b"".join(raw[place::8] for place in range(8)))


def _numbers(text: str) -> array[int]:
    raw = unpack_bytes(text)
    count = len(raw) // 8
    mixed = bytearray(len(raw))
    for place in range(8):
        mixed[place::8] = raw[place * count : (place + 1) * count]
    numbers = array("q", bytes(mixed))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _steps(seconds: float | None) -> int:
    return MISSING if seconds is None or not math.isfinite(seconds) else round(seconds * STEPS)


def _seconds(steps: int) -> float | None:
    return None if steps == MISSING else steps / STEPS


def _spans(since: Sequence[int], until: Sequence[int]) -> list[int]:
    return [MISSING if MISSING in (a, b) else b - a for a, b in zip(since, until, strict=True)]


def _after(start: int, span: int) -> int:
    return MISSING if MISSING in (start, span) else start + span
