"""
The outbox's database file: opened, followed when somebody moves it away, and set aside when it is damaged.

A damaged file must not end the watch, which would have nobody told of anything: it is renamed to
`outbox.db.damaged-…`, for a person to look at, and a new one begun. What waited in it may be lost, so whoever sends is
told through `set_aside` and says so to people.

`Delivery` is one message on its way to one channel, `SendJob` what is sent at once.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from slo.errors import StoreError
from slo.files import advice_on, private_folder
from slo.units import show_duration
from slo.watch.alerting.words import duration_zh
from slo.watch.delivery.sinks.outcome import Outcome
from slo.watch.model.notification import Notification

LATE_WORD_S = 300.0
FORMAT = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    event_id TEXT PRIMARY KEY, enqueued_s REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL REFERENCES messages ON DELETE CASCADE, sink TEXT NOT NULL,
    group_key TEXT NOT NULL, rank INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0, due_s REAL NOT NULL, doubtful INTEGER NOT NULL DEFAULT 0,
    instead_of TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '', done_s REAL, digest TEXT NOT NULL DEFAULT '',
    UNIQUE (event_id, sink));
CREATE INDEX IF NOT EXISTS by_sink ON deliveries (sink, state, rank, seq);
CREATE INDEX IF NOT EXISTS by_group ON deliveries (sink, group_key, state, seq);
CREATE TABLE IF NOT EXISTS gates (
    sink TEXT PRIMARY KEY, tokens REAL NOT NULL, at_s REAL NOT NULL, closed_until_s REAL NOT NULL,
    last_digest_s REAL NOT NULL);
CREATE TABLE IF NOT EXISTS repeats (
    sink TEXT NOT NULL, group_key TEXT NOT NULL, body TEXT NOT NULL, next_s REAL NOT NULL, until_s REAL,
    PRIMARY KEY (sink, group_key));
CREATE TABLE IF NOT EXISTS totals (
    sink TEXT NOT NULL, result TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (sink, result));
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message on its way to one channel.

    `rank` orders by urgency; `instead_of` names the channel that it was meant for, if that failed. `overtook` says of
    an all-clear that it has overtaken its alert.
    """

    seq: int
    sink: str
    rank: int
    attempts: int
    doubtful: bool
    instead_of: str
    enqueued_s: float
    notification: Notification
    overtook: bool = False

    def worded(self, now: float) -> Notification:
        """The message, saying so if it is late, may have been sent before, or comes by another channel than meant."""
        n, late_s = self.notification, now - self.enqueued_s
        if self.overtook:
            n = replace(
                n,
                text_zh=f"{n.text_zh}\n\n（告警消息当时未能送达，现与恢复一并通知。）",
                text_en=f"{n.text_en}\n\n(The alert itself could not be delivered in time; this tells of both.)",
            )
        elif late_s >= LATE_WORD_S:
            n = replace(
                n,
                text_zh=f"{n.text_zh}\n\n（本消息迟到 {duration_zh(late_s)}：通道此前不可用。）",
                text_en=f"{n.text_en}\n\n({show_duration(late_s)} late: the channel was not available.)",
            )
        if self.doubtful:
            n = replace(n, title_zh=f"[重发] {n.title_zh}", title_en=f"[resent] {n.title_en}")
        if self.instead_of:
            n = replace(
                n,
                text_zh=f"{n.text_zh}\n\n（备用通道：{self.instead_of} 未能送达）",
                text_en=f"{n.text_en}\n\n(by fallback: {self.instead_of} did not deliver)",
            )
        return n


@dataclass(slots=True, eq=False)
class SendJob:
    """Claimed entries, the one message that tells of them, and what became of it.

    A `repeat` is of an alert that was delivered: nothing is claimed, and it goes on until `until_s`.
    """

    entries: tuple[Delivery, ...]
    message: Notification
    digest: bool = False
    repeat: bool = False
    until_s: float | None = None
    outcome: Outcome | None = None

    @property
    def channel(self) -> str:
        return self.entries[0].sink


def encode(notification: Notification) -> str:
    """JSON of a notification, for the disk. A half of a surrogate pair, which no channel could send, becomes `?`."""
    data = {name: getattr(notification, name) for name in Notification.__dataclass_fields__}
    data |= {"labels": dict(notification.labels), "annotations": dict(notification.annotations)}
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()


def decode(body: str) -> Notification:
    """The notification that `encode` wrote; fields of later versions are left out."""
    known = set(Notification.__dataclass_fields__)
    return Notification(**{name: value for name, value in json.loads(body).items() if name in known})


class OutboxDamaged(StoreError):
    """The file was damaged and is set aside: the same again goes into a new one."""


class OutboxFile:
    """The database at `path`. Raises `StoreError` for one that cannot be opened, or is of a later version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside: list[Path] = []  # damaged files that nobody was told of yet
        try:
            self._open()
        except OutboxDamaged:
            self._open()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; trouble becomes a `StoreError`, damage an `OutboxDamaged` after which all works."""
        if self._identity() != self._opened:  # moved away, by a person or by another sender that found it damaged
            self.close()
            self._open()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if _is_damage(error):
                self._put_aside(error)
                self._open()
                raise OutboxDamaged(f"{self.path}: {error}: set aside, a new one begun") from error
            raise StoreError(f"{self.path}: {error}", hint=advice_on(error, "is the disk full?")) from error

    def _open(self) -> None:
        try:
            private_folder(self.path.parent)
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            self.path.chmod(0o600)
            self._opened = self._identity()
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")  # enqueued means: survives a power cut
            self._db.execute("PRAGMA foreign_keys=ON")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, FORMAT):
                raise StoreError(f"{self.path}: outbox format {version}, this version reads {FORMAT}")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={FORMAT}")
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        except (OSError, sqlite3.Error) as error:
            if _is_damage(error):
                self._put_aside(error)
                raise OutboxDamaged(f"{self.path}: {error}: set aside") from error
            hint = advice_on(error, "is the disk full, or the folder not writable?")
            raise StoreError(f"{self.path}: {error}", hint=hint) from error

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _put_aside(self, error: Exception) -> None:
        """Rename the file, unless another sender has done so; raises `StoreError` where that is not allowed."""
        self.close()
        if self._identity() != self._opened:
            return
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.path.stat().st_mtime))
        names = (f"{self.path.name}.damaged-{stamp}{f'-{number}' if number else ''}" for number in range(1000))
        aside = next(path for name in names if not (path := self.path.with_name(name)).exists())
        try:
            self.path.rename(aside)
        except OSError as refused:
            raise StoreError(f"{self.path}: {error}, and it cannot be moved away: {refused.strerror}") from error
        for suffix in ("-wal", "-shm"):  # of no use to the new one, and a danger to it
            with suppress(OSError):
                self.path.with_name(self.path.name + suffix).rename(aside.with_name(aside.name + suffix))
        self.set_aside.append(aside)


def _is_damage(error: Exception) -> bool:
    """Malformed, or no database at all. A lock, a full disk or a missing table is an `OperationalError`."""
    return type(error) is sqlite3.DatabaseError
