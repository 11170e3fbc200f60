"""The line that shows a load under way."""

from __future__ import annotations

import io
from io import StringIO

import pytest
from rich.console import Console

from slo.bench.session import Live
from slo.cli.progress_line import LiveLine, describe, progress_on


def shown(console: Console) -> None:
    with progress_on(console) as show:
        for done in range(1, 51):
            show("measure", done, 50)


def test_a_terminal_gets_a_bar() -> None:
    screen = StringIO()
    shown(Console(file=screen, force_terminal=True, width=80))
    assert "50/50" in screen.getvalue()


def test_a_log_gets_a_line_now_and_then() -> None:
    log = StringIO()
    shown(Console(file=log))
    assert log.getvalue().splitlines() == [f"measure {n}/50" for n in (10, 20, 30, 40, 50)]


class Broken(io.StringIO):
    """A terminal that was closed, or a log on a full disk."""

    tried = 0

    def write(self, _text: str) -> int:
        self.tried += 1
        raise OSError(28, "No space left on device")


LIVE = Live(
    phase="load", elapsed_s=12.0, rate=42.1, p95_ms=31.2, p95_low_ms=28.9, p95_high_ms=34.0, good_ratio=0.992,
    in_flight=3, failed=2, left_s=80.0,
)  # fmt: skip


def test_it_says_rate_percentile_with_interval_share_and_time_left() -> None:
    text = describe(LIVE)
    for part in ("42.1/s", "P95 31.2 ms [28.9 ms – 34.0 ms]", "99.20 %", "3 in flight", "2 failed", "1m20s left"):
        assert part in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_load_goes_on_when_nobody_can_read_its_line(terminal: bool) -> None:
    stream = Broken()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    line = LiveLine(stream)
    line(LIVE)
    line.say("a line that stays")
    line.end()
    assert stream.tried >= 2
