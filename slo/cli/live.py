"""
How a load is doing, on stderr: one line rewritten every second on a terminal, a plain line every ten elsewhere.

Written directly, not through a layout engine: drawing must not delay the requests that it reports on.
"""

from __future__ import annotations

import math
import sys
from contextlib import suppress
from typing import TextIO

from slo.bench.live import Live
from slo.units import show_duration, show_ms, show_ratio

PLAIN_EVERY_S = 10.0


class LiveLine:
    """Call it with each `Live`; `end()` leaves the line.

    Where the terminal is gone or the log's disk is full, nothing is shown any more: the load goes on regardless.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._next_s = 0.0
        self._width = 0

    def __call__(self, live: Live) -> None:
        if self._terminal:
            text = describe(live)
            self._write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif live.elapsed_s >= self._next_s or live.elapsed_s < self._next_s - 2 * PLAIN_EVERY_S:
            self._next_s = live.elapsed_s + PLAIN_EVERY_S
            self.say(describe(live))

    def say(self, text: str) -> None:
        """A line that stays."""
        self.end()
        self._write(text + "\n")

    def end(self) -> None:
        """Wipe the rewritten line."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


def describe(live: Live) -> str:
    """`load 42.1/s · P95 31.2 ms [28.9 ms – 34 ms] · good 99.2 % · 3 in flight · 1m20s left`."""
    if math.isnan(live.p95_ms):
        figures = "no answer yet"
    elif math.isinf(live.p95_ms):
        figures = "P95 beyond reach: over 5 % failed"
    else:
        low, high = show_ms(live.p95_low_ms), "∞" if math.isinf(live.p95_high_ms) else show_ms(live.p95_high_ms)
        figures = f"P95 {show_ms(live.p95_ms)} [{low} – {high}]"
    parts = [f"{live.phase:<8} {live.rate:.1f}/s", figures, f"good {show_ratio(live.good_ratio)}"]
    parts.append(f"{live.in_flight} in flight")
    if live.failed:
        parts.append(f"{live.failed} failed")
    if live.left_s is not None:
        parts.append(f"{show_duration(round(live.left_s))} left")
    return " · ".join(parts)
