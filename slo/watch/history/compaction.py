"""
Keeping the history small: minutes become five minutes, then hours, then nothing.

Minutes are kept as long as an alert's window may look back at them, hours as long as a budget needs them; nothing
within a budget period is ever dropped, only made coarser. Counts and histograms stay exact through all of it: they
add. Work is done a day at a time, each day in one transaction, so a kill in between costs nothing and a full table
never sits in memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any

from slo.watch.history.schema import PAGE_BYTES
from slo.watch.history.store import Store

MINUTE, FIVE, HOUR, DAY = 60, 300, 3600, 86400
EVENTS_KEPT = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each resolution is kept, in seconds. `period_s` is the budget period: never dropped."""

    minutes_s: float = 4 * DAY
    fives_s: float = 32 * DAY
    hours_s: float = 400 * DAY
    evidence_s: float = 2 * DAY
    period_s: float = 30 * DAY

    def tighter(self) -> Retention | None:
        """The next smaller one, for a history beyond its size; None when only the period itself is left."""
        if self.minutes_s > 6 * HOUR or self.fives_s > DAY:
            return Retention(
                minutes_s=max(6 * HOUR, self.minutes_s / 2),
                fives_s=max(DAY, self.fives_s / 2),
                hours_s=self.hours_s,
                evidence_s=max(HOUR, self.evidence_s / 2),
                period_s=self.period_s,
            )
        if self.hours_s > self.period_s:
            return Retention(
                minutes_s=self.minutes_s,
                fives_s=self.fives_s,
                hours_s=max(self.period_s, self.hours_s / 2),
                evidence_s=self.evidence_s,
                period_s=self.period_s,
            )
        return None


def compact(store: Store, now_s: float, retention: Retention) -> Retention:
    """Make old rows coarser and drop the oldest until the file is within four fifths of its cap.

    Gives back the retention that this took: `retention` itself unless the file was too large.
    Raises `StoreError` if it cannot be done.
    """
    while True:
        _coarsen(store, FIVE, now_s - retention.minutes_s)
        _coarsen(store, HOUR, now_s - retention.fives_s)
        _drop(store, now_s, retention)
        # The hard limit is at three quarters of the cap (see schema): stay clear of it.
        if used_bytes(store) <= store.max_bytes * 0.6:
            return retention
        tighter = retention.tighter()
        if tighter is None:
            return retention
        retention = tighter


def used_bytes(store: Store) -> int:
    """Size of the database without its free pages."""
    pages, free = store.query("PRAGMA page_count")[0][0], store.query("PRAGMA freelist_count")[0][0]
    return int(pages - free) * PAGE_BYTES


def _coarsen(store: Store, length_s: int, before_s: float) -> None:
    """Merge rows shorter than `length_s` that end before `before_s` into rows of `length_s`."""
    limit_s = int(before_s) // length_s * length_s
    while True:
        oldest = store.query(
            "SELECT min(start_s) FROM (SELECT min(start_s) AS start_s FROM minutes WHERE length_s < ? AND start_s < ? "
            "UNION ALL SELECT min(start_s) FROM counts WHERE length_s < ? AND start_s < ? "
            "UNION ALL SELECT min(start_s) FROM slices WHERE length_s < ? AND start_s < ?)",
            (length_s, limit_s) * 3,
        )[0][0]
        if oldest is None:
            return
        start_s = oldest // length_s * length_s
        end_s = min(limit_s, start_s + DAY)
        with store.transaction() as connection:
            _merge_minutes(connection, start_s, end_s, length_s)
            _merge(connection, "counts", "event, source", "good, total", start_s, end_s, length_s)
            _merge(connection, "slices", "event", "good, bad, unknown", start_s, end_s, length_s)


def _merge(
    connection: sqlite3.Connection, table: str, keys: str, sums: str, start_s: int, end_s: int, length_s: int
) -> None:
    added = ", ".join(f"sum({column})" for column in sums.split(", "))
    rows = connection.execute(
        f"SELECT {keys}, maintenance, start_s / {length_s} * {length_s}, {length_s}, {added} FROM {table} "  # noqa: S608 (own names)
        f"WHERE start_s >= ? AND start_s < ? AND length_s < {length_s} "
        f"GROUP BY {keys}, maintenance, start_s / {length_s}",
        (start_s, end_s),
    ).fetchall()
    connection.execute(
        f"DELETE FROM {table} WHERE start_s >= ? AND start_s < ? AND length_s < {length_s}",  # noqa: S608 (own names)
        (start_s, end_s),
    )
    # A late part of a minute may meet a row that is coarse already.
    again = ", ".join(f"{column} = {column} + excluded.{column}" for column in sums.split(", "))
    if rows:
        connection.executemany(
            f"INSERT INTO {table} ({keys}, maintenance, start_s, length_s, {sums}) "  # noqa: S608 (own names)
            f"VALUES ({', '.join('?' * len(rows[0]))}) ON CONFLICT DO UPDATE SET {again}",
            rows,
        )


def _merge_minutes(connection: sqlite3.Connection, start_s: int, end_s: int, length_s: int) -> None:
    merged: dict[tuple[Any, ...], tuple[list[int], float, Counter[str]]] = {}
    # Rows of the coarse length are read as well: a late part of a minute may belong to one.
    where = "WHERE start_s >= ? AND start_s < ? AND length_s <= ?"
    for row in connection.execute(f"SELECT * FROM minutes {where}", (start_s, end_s, length_s)):  # noqa: S608
        key = (row[0] // length_s * length_s, length_s, *row[2:5])
        counts, sum_s, outcomes = merged.get(key, ([], 0.0, Counter()))
        added = json.loads(row[5])
        outcomes.update(json.loads(row[7]))
        merged[key] = (
            [a + b for a, b in zip(counts, added, strict=True)] if counts else added,
            sum_s + row[6],
            outcomes,
        )
    connection.execute(f"DELETE FROM minutes {where}", (start_s, end_s, length_s))  # noqa: S608
    connection.executemany(
        "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*key, json.dumps(counts, separators=(",", ":")), sum_s, json.dumps(outcomes, separators=(",", ":")))
            for key, (counts, sum_s, outcomes) in merged.items()
        ],
    )


def _drop(store: Store, now_s: float, retention: Retention) -> None:
    oldest_s = now_s - max(retention.hours_s, retention.period_s)
    with store.transaction() as connection:
        for table in ("minutes", "counts", "slices"):
            connection.execute(f"DELETE FROM {table} WHERE start_s < ?", (oldest_s,))  # noqa: S608 (own names)
        connection.execute("DELETE FROM evidence WHERE start_s < ?", (now_s - retention.evidence_s,))
        connection.execute("DELETE FROM events WHERE at_s < ?", (oldest_s,))
        connection.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (EVENTS_KEPT,))
        connection.execute("DELETE FROM spans WHERE ends_s < ?", (oldest_s,))
        connection.execute("DELETE FROM edges WHERE id NOT IN (SELECT DISTINCT edges FROM minutes)")
    with store.errors():
        store.query("PRAGMA incremental_vacuum")
