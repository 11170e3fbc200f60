"""
What `slo watch` has written, read only: minutes, attainment, alerts and changes, for the live page.

The API process may not import the watcher, so this reads the file by its schema (version 1, see
`slo/watch/history/schema.py`);
a test writes with the one and reads with the other. A missing file is no history; one that cannot be read is a
`StoreError`, which the page shows beside what the server remembers by itself.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slo.errors import StoreError
from slo.stats import Histogram

VERSION = 1
FRESH_S = 180.0  # three checks missed: nobody is watching
BUSY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The minutes within one step, all sources together; maintenance is left out."""

    start_s: float
    good: int
    total: int
    answered: Histogram
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of the chronicle."""

    at_s: float
    subject: str
    text: str
    data: dict[str, Any]


class History:
    """The history at `path`, opened anew for every question. `event` names what counts as good."""

    def __init__(self, path: Path, threshold_ms: float) -> None:
        self.path = path
        self.event = f"latency<={threshold_ms:g}ms"

    def watched(self, now_s: float) -> bool:
        """Has a watcher written within the last minutes?"""
        rows = self._query("SELECT max(start_s + length_s) FROM minutes")
        return bool(rows) and rows[0][0] is not None and now_s - float(rows[0][0]) < FRESH_S

    def counts(self, from_s: float, to_s: float) -> tuple[int, int]:
        """Good and total of the rows that begin in `[from_s, to_s)`."""
        rows = self._query(
            "SELECT coalesce(sum(good), 0), coalesce(sum(total), 0) FROM counts "
            "WHERE event = ? AND start_s >= ? AND start_s < ? AND maintenance = 0",
            (self.event, from_s, to_s),
        )
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def slots(self, from_s: float, to_s: float, step_s: int) -> list[Slot]:
        """Slots of `step_s` seconds that have any request, oldest first."""
        minutes = self._query(
            "SELECT start_s, histogram, sum_s, outcomes, value FROM minutes JOIN edges ON edges.id = minutes.edges "
            "WHERE start_s >= ? AND start_s < ? AND maintenance = 0",
            (from_s, to_s),
        )
        counted = self._query(
            "SELECT start_s, good, total FROM counts "
            "WHERE event = ? AND start_s >= ? AND start_s < ? AND maintenance = 0",
            (self.event, from_s, to_s),
        )
        slots: dict[int, Slot] = {}
        for start_s, good, total in counted:
            index = int((start_s - from_s) // step_s)
            slots[index] = _plus(slots.get(index), from_s + index * step_s, good=good, total=total)
        for start_s, counts, sum_s, outcomes, edges in minutes:
            index = int((start_s - from_s) // step_s)
            answered = Histogram(tuple(json.loads(edges)), json.loads(counts), sum_s)
            failed = sum(json.loads(outcomes).values())
            slots[index] = _plus(slots.get(index), from_s + index * step_s, answered=answered, failed=failed)
        return [slots[index] for index in sorted(slots)]

    def events(self, kind: str, since_s: float, most: int) -> list[Event]:
        """The newest `most` events of one kind since then, oldest first."""
        rows = self._query(
            "SELECT at_s, subject, text, data FROM events WHERE kind = ? AND at_s >= ? "
            "ORDER BY at_s DESC, id DESC LIMIT ?",
            (kind, since_s, most),
        )
        return [Event(at_s=row[0], subject=row[1], text=row[2], data=json.loads(row[3])) for row in reversed(rows)]

    def _query(self, sql: str, arguments: tuple[object, ...] = ()) -> list[Any]:
        """Rows; none without a file. Raises `StoreError` for a file that is not a history of our version."""
        if not self.path.is_file():
            return []
        try:
            with closing(
                sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)
            ) as opened:
                version = opened.execute("PRAGMA user_version").fetchone()[0]
                if version != VERSION:
                    raise StoreError(f"{self.path.name}: history format {version}, this version reads {VERSION}")
                return opened.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path.name}: {error}") from error


def _plus(
    slot: Slot | None,
    start_s: float,
    *,
    good: int = 0,
    total: int = 0,
    answered: Histogram | None = None,
    failed: int = 0,
) -> Slot:
    before = slot or Slot(start_s=start_s, good=0, total=0, answered=Histogram(), failed=0)
    histogram = before.answered
    if answered is not None:
        # Other edges than before (the objective was changed): percentiles then come from the newer minutes alone.
        if histogram.total and histogram.edges_s == answered.edges_s:
            answered.add(histogram)
        histogram = answered
    return Slot(
        start_s=start_s,
        good=before.good + good,
        total=before.total + total,
        answered=histogram,
        failed=before.failed + failed,
    )
