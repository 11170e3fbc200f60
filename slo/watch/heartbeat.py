"""
Who watches the watcher: a sign of life after every completed round, for others to miss. A watch that counts and cannot
tell anybody gives none.

Two ways, both may be used. A file, `heartbeat.json` in the state directory, that a second process (`slo check`, cron, a
container's health check) verifies. And a push to an address that alerts when it is *not* called, the dead-man's
switch that outlives this machine. A failed push is reported once per outage and never stops the watch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slo.clock import iso
from slo.errors import RequestError, StoreError
from slo.files import write_atomically
from slo.units import show_duration

FILE = "heartbeat.json"
METRIC = "slo_watcher_last_success_timestamp_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The last completed round: when, and by which process."""

    at_s: float
    pid: int
    interval_s: float

    def silent(self, now_s: float, *, missed: int = 3) -> bool:
        """Have `missed` rounds gone by without a sign? A wall clock that went back is no silence."""
        return now_s - self.at_s > missed * self.interval_s

    def describe(self, now_s: float) -> str:
        """`last round 4m ago, at 2026-11-23T14:10:58.123Z, by process 4711`."""
        ago = show_duration(max(0.0, now_s - self.at_s))
        return f"last round {ago} ago, at {iso(self.at_s)}, by process {self.pid}"


def read_beat(state_dir: Path) -> Beat | None:
    """The sign in `state_dir`; None where no watcher has ever run. Raises `StoreError` for an unreadable one."""
    path = state_dir / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Beat(at_s=float(data["at_s"]), pid=int(data["pid"]), interval_s=float(data["interval_s"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: not a heartbeat: {error}") from error


def metric_text(beat: Beat) -> str:
    """The sign as Prometheus text, for node_exporter's text-file collector or a scrape."""
    return (
        f"# HELP {METRIC} When the watcher last completed a round.\n# TYPE {METRIC} gauge\n{METRIC} {beat.at_s:.3f}\n"
    )


class Heartbeat:
    """Gives the signs. `push()` calls the dead-man's address and raises `RequestError` when that fails."""

    def __init__(
        self,
        state_dir: Path,
        *,
        interval_s: float,
        push: Callable[[], None] | None = None,
        complain: Callable[[str], None],
    ) -> None:
        self._state_dir = state_dir
        self._interval_s = interval_s
        self._push = push
        self._complain = complain
        self._failing = False

    def beat(self, now_s: float) -> None:
        """One sign, now: after the round's counts are stored and its alerts are handed over, never before."""
        sign = Beat(at_s=now_s, pid=os.getpid(), interval_s=self._interval_s)
        try:
            write_atomically(
                self._state_dir / FILE,
                json.dumps({"at_s": sign.at_s, "pid": sign.pid, "interval_s": sign.interval_s}) + "\n",
            )
            write_atomically(self._state_dir / "watcher.prom", metric_text(sign))
            if self._push is not None:
                self._push()
        except (StoreError, RequestError) as error:
            if not self._failing:
                self._complain(f"heartbeat: {error.message}")
            self._failing = True
        else:
            self._failing = False
