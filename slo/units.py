"""
Durations, sizes and ratios as people write them: `150ms`, `24h`, `512MiB`, `99.5%`.

Inside the program a duration is a float of seconds (name ends in `_s`) or milliseconds (`_ms`),
a size is an int of bytes, a ratio is a float between 0 and 1.
"""

from __future__ import annotations

import math
import re

from slo.errors import ConfigError

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0,
           "h": 3600.0, "d": 86400.0, "w": 604800.0}  # fmt: skip
BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|min|s|m|h|d|w)")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b|b)\s*", re.IGNORECASE)


def parse_duration(text: str | float) -> float:
    """Seconds meant by `150ms`, `1h30m` or a bare number of seconds. Never negative."""
    if isinstance(text, bool) or not isinstance(text, str):
        return _not_negative(float(text), text)
    stripped = text.strip()
    try:
        return _not_negative(float(stripped), text)
    except ValueError:
        pass
    position, seconds = 0, 0.0
    while position < len(stripped):
        match = _PART.match(stripped, position)
        if match is None:
            break
        seconds += float(match.group(1)) * SECONDS[match.group(2)]
        position = match.end()
    if position == 0 or position != len(stripped):
        raise ConfigError(f"{text!r} is not a duration", hint="write it like 150ms, 30s, 5m, 24h or 30d")
    return seconds


def parse_size(text: str | int) -> int:
    """Bytes meant by `512MiB`, `2 GB` or a bare number of bytes."""
    if isinstance(text, int) and not isinstance(text, bool):
        return int(_not_negative(text, text))
    raw = str(text).strip()
    if raw.isdigit():
        return int(raw)
    match = _SIZE.fullmatch(raw)
    if match is None:
        raise ConfigError(f"{text!r} is not a size", hint="write it like 512MiB, 2GiB or 500MB")
    return int(float(match.group(1)) * BYTES[match.group(2).lower()])


def _not_negative(value: float, text: object) -> float:
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{text!r} is out of range", hint="give a finite value of zero or more")
    return value


def show_ms(milliseconds: float) -> str:
    """`8.31 ms`, `148 ms`, `4.59 s`: three figures, for display only; never compare the result."""
    if math.isnan(milliseconds):
        return "–"
    if math.isinf(milliseconds):
        return "∞"  # a percentile that is a failed request
    if milliseconds >= 10_000:
        return f"{milliseconds / 1000:.1f} s"
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    if milliseconds >= 100:
        return f"{milliseconds:.0f} ms"
    return f"{milliseconds:.1f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def show_duration(seconds: float) -> str:
    """`90 s` → `1m30s`; below a minute with one decimal."""
    if seconds < 60:
        return f"{seconds:.1f}s".replace(".0s", "s")
    rest, parts = round(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def show_bytes(size: float) -> str:
    """`1.5 GiB`, for display."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def show_ratio(ratio: float) -> str:
    """`0.987` → `98.70 %`; rounds towards the worse side, so that 99.999 % never reads as 100 %."""
    if math.isnan(ratio):
        return "–"
    text = f"{int(ratio * 10_000 + 1e-9) / 100:.2f} %"
    return text if ratio < 1 else "100 %"
