"""
Arrival times and text lengths, recorded and replayed; never the texts.

A trace is JSON lines: a header `{"format": 1, "kind": "arrivals"}`, then one line per request,
`{"t": 0.125, "chars": [20]}` with `t` in seconds from the first and the characters of each of its texts.
`slo record` fetches one of live traffic from a server with our extension; whatever else sees traffic can write one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slo.errors import ConfigError
from slo.files import write_atomically

FORMAT = 1
LONGEST = 100_000  # characters of one replayed text


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Due times (seconds, ascending from 0) with the characters of each request's texts."""

    due_s: list[float]
    chars: list[tuple[int, ...]]

    @property
    def duration_s(self) -> float:
        """From the first arrival to one mean gap after the last."""
        count = len(self.due_s)
        return self.due_s[-1] * count / (count - 1) if count > 1 else 1.0


def write_trace(path: Path, arrivals: Iterable[tuple[float, tuple[int, ...]]]) -> None:
    """Write `(due_s, chars)` pairs; times are shifted to start at 0."""
    rows = sorted(arrivals)
    start = rows[0][0] if rows else 0.0
    lines = [json.dumps({"format": FORMAT, "kind": "arrivals"})]
    lines += [json.dumps({"t": round(due - start, 6), "chars": list(chars)}) for due, chars in rows]
    write_atomically(path, "\n".join(lines) + "\n")


def read_trace(path: Path) -> Trace:
    """The trace in `path`. Raises `ConfigError` naming the line that is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    return parse_trace(text, str(path))


def parse_trace(text: str, source: str) -> Trace:
    """The trace in `text`. Raises `ConfigError` naming `source` and the line that is not one."""
    lines = text.splitlines()
    due: list[float] = []
    chars: list[tuple[int, ...]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if number == 1:
                if (row["format"], row["kind"]) != (FORMAT, "arrivals"):
                    raise ValueError("this header is not that of a trace")
                continue
            due.append(float(row["t"]))
            chars.append(tuple(int(n) for n in row["chars"]))
            if due[-1] < (due[-2] if len(due) > 1 else 0.0):
                raise ValueError("times go back")
            if not chars[-1] or not all(0 < n <= LONGEST for n in chars[-1]):
                raise ValueError(f"lengths must be within 1 and {LONGEST}")
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"not an arrival: {error}",
                where=f"{source}:{number}",
                hint="`slo record` and `slo load --record-arrivals` write them",
            ) from error
    if not due:
        raise ConfigError("holds no arrivals", where=source)
    return Trace(due_s=due, chars=chars)
