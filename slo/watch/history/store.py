"""
The history of what was measured: every minute's counts and histograms, and what was concluded from them.

One writer, many readers, see `schema.py`. What belongs together is written in one `transaction()`. Rows of the same
minute and source add up, so a minute may be recorded in parts. Any failure is a `StoreError`, after which the store
is as it was before the block, and usable: the caller reports it and goes on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slo.errors import StoreError
from slo.stats import Histogram
from slo.watch.history.schema import advice, connect, is_damage, put_aside, salvage, transaction
from slo.watch.model.counts import Counts, Minute, Slices, Source
from slo.watch.model.objectives import Goal

MAX_BYTES = 64 * 2**20

_ADD_COUNTS = """INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET good = good + excluded.good, total = total + excluded.total"""
_ADD_SLICES = """INSERT INTO slices VALUES (?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT DO UPDATE SET
    good = good + excluded.good, bad = bad + excluded.bad, unknown = unknown + excluded.unknown"""


class Store:
    """An open history. Not for several threads; close it, or use `with`.

    `repair`: a damaged file is set aside, here or by `renew`, and a new one begun with what can be read of it.
    `damaged` says that SQLite has found damage since; `set_aside` where the last damaged file lies now.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, max_bytes: int = MAX_BYTES, repair: bool = False
    ) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.damaged = False
        self.set_aside: Path | None = None
        try:
            self._connection = connect(path, max_bytes=max_bytes, read_only=read_only)
            if not repair:
                return
            with self.errors():
                sound = [row[0] for row in self._connection.execute("PRAGMA quick_check(1)")] == ["ok"]
        except StoreError as error:
            if not repair or not isinstance(error.__cause__, sqlite3.Error) or not is_damage(error.__cause__):
                raise
            sound = False
        if not sound:
            self.renew()

    def renew(self) -> None:
        """Set the damaged file aside and begin a new one. Raises `StoreError` if that cannot be done."""
        if hasattr(self, "_connection"):
            self._connection.close()
        try:
            self.set_aside = put_aside(self.path)
        except OSError as error:
            raise StoreError(f"{self.path}: damaged, and cannot be set aside: {error.strerror}") from error
        self._connection = connect(self.path, max_bytes=self.max_bytes)
        with self.transaction() as connection:
            salvage(self.set_aside, connection)
        self.damaged = False

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of the block or none of it. Raises `StoreError` when it cannot be written."""
        with self.errors(), transaction(self._connection):
            yield self._connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Whatever SQLite complains about in the block becomes a `StoreError` with the path."""
        try:
            yield
        except sqlite3.Error as error:
            self.damaged = self.damaged or is_damage(error)
            raise StoreError(f"{self.path}: {error}", hint=advice(error, self.path)) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:  # a row that nobody wrote so
            self.damaged = True
            raise StoreError(f"{self.path}: malformed row: {error}") from error

    def query(self, sql: str, arguments: Collection[object] = ()) -> list[Any]:
        """All rows of a query."""
        with self.errors():
            return self._connection.execute(sql, tuple(arguments)).fetchall()

    def record(self, minutes: Iterable[Minute], goals: Iterable[Goal], *, maintenance: bool = False) -> None:
        """Add these slices, and their counts for each of `goals` that they can tell."""
        wanted = tuple(goals)
        with self.transaction() as connection:
            for minute in minutes:
                if minute.total:
                    add_minute(connection, minute, maintenance=maintenance)
                events = {goal.event: goal for goal in wanted}  # two targets may share one event
                for event, goal in events.items():
                    counted = minute.counts(goal)
                    if counted is not None and counted.total:
                        row = (event, minute.start_s, minute.length_s, minute.source, maintenance)
                        connection.execute(_ADD_COUNTS, (*row, counted.good, counted.total))

    def record_slice(self, goal: Goal, start_s: int, slices: Slices, *, length_s: int = 60, maintenance: bool) -> None:
        """Add the verdict on the window that ends with the minute at `start_s`."""
        with self.transaction() as connection:
            row = (goal.slice_event, start_s, length_s, maintenance, slices.good, slices.bad, slices.unknown)
            connection.execute(_ADD_SLICES, row)

    def counts(self, event: str, start_s: float, end_s: float, *, with_maintenance: bool = False) -> Counts:
        """Good and total of the rows that begin in `[start_s, end_s)`, all sources together."""
        good, total = self.query(
            "SELECT coalesce(sum(good), 0), coalesce(sum(total), 0) FROM counts "
            "WHERE event = ? AND start_s >= ? AND start_s < ? AND maintenance <= ?",
            (event, start_s, end_s, with_maintenance),
        )[0]
        return Counts(good, total)

    def counts_by_source(self, event: str, start_s: float, end_s: float) -> dict[Source, Counts]:
        """The same for each source that has any, maintenance left out."""
        rows = self.query(
            "SELECT source, sum(good), sum(total) FROM counts "
            "WHERE event = ? AND start_s >= ? AND start_s < ? AND maintenance = 0 GROUP BY source",
            (event, start_s, end_s),
        )
        return {source: Counts(good, total) for source, good, total in rows}

    def slices(self, goal: Goal, start_s: float, end_s: float, *, with_maintenance: bool = False) -> Slices:
        """Five-minute windows met, missed and unknown, of those that end in `(start_s, end_s]`."""
        row = self.query(
            "SELECT coalesce(sum(good), 0), coalesce(sum(bad), 0), coalesce(sum(unknown), 0) FROM slices "
            "WHERE event = ? AND start_s >= ? AND start_s < ? AND maintenance <= ?",
            (goal.slice_event, start_s, end_s, with_maintenance),
        )[0]
        return Slices(*row)

    def minutes(
        self, start_s: float, end_s: float, *, sources: Collection[Source] = (), with_maintenance: bool = False
    ) -> Iterator[Minute]:
        """The slices that begin in `[start_s, end_s)`, oldest first; of `sources` only, if any are given."""
        chosen = f"AND source IN ({', '.join('?' * len(sources))})" if sources else ""
        rows = self.query(
            "SELECT start_s, length_s, source, histogram, sum_s, outcomes, value FROM minutes "  # noqa: S608 (marks only)
            "JOIN edges ON edges.id = minutes.edges "
            f"WHERE start_s >= ? AND start_s < ? AND maintenance <= ? {chosen} ORDER BY start_s, source",
            (start_s, end_s, with_maintenance, *sources),
        )
        with self.errors():
            found = [minute_from(row) for row in rows]
        yield from found

    def first_minute_s(self) -> int | None:
        """Start of the oldest slice; None in an empty history."""
        value = self.query("SELECT min(start_s) FROM minutes")[0][0]
        return None if value is None else int(value)

    def last_minute_s(self) -> int | None:
        """Start of the newest slice; None in an empty history."""
        value = self.query("SELECT max(start_s) FROM minutes")[0][0]
        return None if value is None else int(value)

    def mark_maintenance(self, starts_s: float, ends_s: float) -> None:
        """Mark what was recorded within `[starts_s, ends_s)` as maintenance.

        A minute cut by the edge is excused whole, a row made coarser only when it lies within.
        """
        where = (
            "maintenance = 0 AND ((length_s <= 60 AND start_s < ? AND start_s + length_s > ?) "
            "OR (start_s >= ? AND start_s + length_s <= ?))"
        )
        span = (ends_s, starts_s, starts_s, ends_s)
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT start_s, length_s, source, histogram, sum_s, outcomes, value FROM minutes "  # noqa: S608
                f"JOIN edges ON edges.id = minutes.edges WHERE {where}",
                span,
            ).fetchall()
            for row in rows:
                add_minute(connection, minute_from(row), maintenance=True)
            # Added, not renamed: a coarse row may have an excused twin already.
            for table, columns, add in (
                ("counts", "event, start_s, length_s, source, 1, good, total", _ADD_COUNTS),
                ("slices", "event, start_s, length_s, 1, good, bad, unknown", _ADD_SLICES),
            ):
                moved = connection.execute(f"SELECT {columns} FROM {table} WHERE {where}", span).fetchall()  # noqa: S608
                connection.executemany(add, moved)
            for table in ("minutes", "counts", "slices"):
                connection.execute(f"DELETE FROM {table} WHERE {where}", span)  # noqa: S608

    def put_state(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep `value` under `key`, in place of what was there."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, json.dumps(value)))

    def state(self, key: str) -> dict[str, Any]:
        """What was kept under `key`; empty if nothing was."""
        rows = self.query("SELECT value FROM state WHERE key = ?", (key,))
        with self.errors():
            return dict(json.loads(rows[0][0])) if rows else {}

    def put_evidence(self, start_s: int, data: Mapping[str, Any]) -> None:
        """Keep what the server said about itself in that minute, for the search for causes."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO evidence VALUES (?, ?)", (start_s, json.dumps(data)))

    def evidence(self, start_s: float, end_s: float) -> list[dict[str, Any]]:
        """The evidence of the minutes in `[start_s, end_s)`, oldest first."""
        rows = self.query(
            "SELECT data FROM evidence WHERE start_s >= ? AND start_s < ? ORDER BY start_s", (start_s, end_s)
        )
        with self.errors():
            return [dict(json.loads(row[0])) for row in rows]


def add_edges(connection: sqlite3.Connection, edges_s: Iterable[float]) -> int:
    """The number under which these edges are kept."""
    value = json.dumps(list(edges_s))
    connection.execute("INSERT OR IGNORE INTO edges (value) VALUES (?)", (value,))
    return int(connection.execute("SELECT id FROM edges WHERE value = ?", (value,)).fetchone()[0])


def add_minute(connection: sqlite3.Connection, minute: Minute, *, maintenance: bool) -> None:
    """Add `minute` to its row."""
    edges = add_edges(connection, minute.histogram.edges_s)
    key = (minute.start_s, minute.length_s, minute.source, int(maintenance), edges)
    counts, sum_s, outcomes = list(minute.histogram.counts), minute.histogram.sum_s, dict(minute.outcomes)
    row = connection.execute(
        "SELECT histogram, sum_s, outcomes FROM minutes "
        "WHERE start_s = ? AND length_s = ? AND source = ? AND maintenance = ? AND edges = ?",
        key,
    ).fetchone()
    if row is not None:
        counts = [a + b for a, b in zip(counts, json.loads(row[0]), strict=True)]
        sum_s += row[1]
        for outcome, number in json.loads(row[2]).items():
            outcomes[outcome] = outcomes.get(outcome, 0) + number
    connection.execute(
        "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*key, json.dumps(counts, separators=(",", ":")), sum_s, json.dumps(outcomes, separators=(",", ":"))),
    )


def minute_from(row: tuple[Any, ...]) -> Minute:
    """The slice in a row of start, length, source, histogram, sum, outcomes, edges."""
    start_s, length_s, source, histogram, sum_s, outcomes, edges = row
    return Minute(
        start_s=start_s,
        length_s=length_s,
        source=source,
        histogram=Histogram(tuple(json.loads(edges)), json.loads(histogram), sum_s),
        outcomes=json.loads(outcomes),
    )
