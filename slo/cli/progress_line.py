"""
How far it is, and how a load is doing, always on stderr: a line rewritten on a terminal, plain lines elsewhere.

The line of a load is written directly, not through a layout engine: drawing must not delay the requests that it
reports on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from slo.bench.session import Live
from slo.units import show_duration, show_ms, show_ratio

STEPS = 5  # plain lines per phase
PLAIN_EVERY_S = 10.0


@contextmanager
def progress_on(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function of phase, done and total that shows them."""
    if not console.is_terminal:
        yield _plain(console)
        return
    bar = Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, int] = {}
    with bar:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = int(bar.add_task(phase, total=total))
            bar.update(bar.task_ids[tasks[phase]], completed=done)

        yield show


def _plain(console: Console) -> Callable[[str, int, int], None]:
    def show(phase: str, done: int, total: int) -> None:
        if done * STEPS // total != (done - 1) * STEPS // total:
            console.print(f"{phase} {done}/{total}", highlight=False)

    return show


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
