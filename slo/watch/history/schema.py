"""
The history file: its tables, its version, how it is opened, and how it is set aside when it is damaged.

SQLite in WAL mode: one process writes while others read, and a process killed at any point leaves a file that opens
as of its last commit. `synchronous=FULL` makes that hold for power failures too, at one fsync a minute.

Damage is what SQLite calls so, when it opens the file or in the middle of it: the file is put aside under another name,
and what can be read of the budget taken over. A file that is locked, of another version or not readable for us is not
damaged: moving that away would lose what is in it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from slo.errors import StoreError
from slo.files import advice_on, locked, private_folder

SIGNS = ("file is not a database", "malformed", "file is encrypted")
KEPT = 3  # damaged files; older ones go, so that a dying disk does not fill up
# Figures and agreements alone: what else a damaged row may hold is not worth the risk of believing it.
_SALVAGED = {
    "counts": "SELECT * FROM counts WHERE good BETWEEN 0 AND total",
    "slices": "SELECT * FROM slices WHERE min(good, bad, unknown) >= 0",
    "spans": "SELECT * FROM spans WHERE json_valid(matchers)",
}


def is_damage(error: sqlite3.Error) -> bool:
    """Does SQLite say that the file itself is broken?"""
    return any(sign in str(error) for sign in SIGNS)


def put_aside(path: Path) -> Path:
    """The new name of the damaged file at `path` and of its log. Raises `OSError`."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = next(
        name for number in range(1000) if not (name := path.with_name(f"{path.name}.damaged-{stamp}-{number}")).exists()
    )
    path.replace(aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).replace(aside.with_name(aside.name + suffix))
    older = sorted(
        (found for found in path.parent.glob(f"{path.name}.damaged-*") if found.name[-4:] not in ("-wal", "-shm")),
        key=lambda found: found.stat().st_mtime,
    )
    for found in older[:-KEPT]:
        for suffix in ("", "-wal", "-shm"):
            found.with_name(found.name + suffix).unlink(missing_ok=True)
    return aside


def salvage(aside: Path, connection: sqlite3.Connection) -> int:
    """Take over what can be read of the budget's counts; how many rows that was."""
    taken = 0
    with closing(sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True)) as damaged:
        for table, query in _SALVAGED.items():
            with suppress(sqlite3.Error):  # up to the damage, which is why we are here
                for row in damaged.execute(query):
                    marks = ", ".join("?" * len(row))
                    taken += connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row).rowcount  # noqa: S608
    return taken


VERSION = 1
PAGE_BYTES = 4096
BUSY_S = 5.0
SMALLEST_BYTES = 2 * 2**20

_TABLES = """
CREATE TABLE edges (id INTEGER PRIMARY KEY, value TEXT NOT NULL UNIQUE);
CREATE TABLE minutes (
  start_s INTEGER NOT NULL, length_s INTEGER NOT NULL, source TEXT NOT NULL, maintenance INTEGER NOT NULL,
  edges INTEGER NOT NULL, histogram TEXT NOT NULL, sum_s REAL NOT NULL, outcomes TEXT NOT NULL,
  PRIMARY KEY (start_s, length_s, source, maintenance, edges)) WITHOUT ROWID;
CREATE TABLE counts (
  event TEXT NOT NULL, start_s INTEGER NOT NULL, length_s INTEGER NOT NULL, source TEXT NOT NULL,
  maintenance INTEGER NOT NULL, good INTEGER NOT NULL, total INTEGER NOT NULL,
  PRIMARY KEY (event, start_s, length_s, source, maintenance)) WITHOUT ROWID;
CREATE TABLE slices (
  event TEXT NOT NULL, start_s INTEGER NOT NULL, length_s INTEGER NOT NULL, maintenance INTEGER NOT NULL,
  good INTEGER NOT NULL, bad INTEGER NOT NULL, unknown INTEGER NOT NULL,
  PRIMARY KEY (event, start_s, length_s, maintenance)) WITHOUT ROWID;
CREATE TABLE evidence (start_s INTEGER PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at_s REAL NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
  author TEXT NOT NULL, data TEXT NOT NULL);
CREATE INDEX events_at ON events (kind, at_s);
CREATE TABLE spans (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, starts_s REAL NOT NULL, ends_s REAL NOT NULL, author TEXT NOT NULL,
  reason TEXT NOT NULL, matchers TEXT NOT NULL) WITHOUT ROWID;
"""


def connect(path: Path, *, max_bytes: int, read_only: bool = False) -> sqlite3.Connection:
    """A connection to the history at `path`, created if it is to be written and does not exist.

    `max_bytes` bounds database and log together. Raises `StoreError` for a file of another version, one that is no
    database, or one that cannot be opened.
    """
    if read_only and not path.exists():
        raise StoreError(f"{path}: no history yet", hint="`slo watch` writes it")
    try:
        if not read_only:
            private_folder(path.parent)
        mode = "ro" if read_only else "rwc"
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, isolation_level=None
        )
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{path}: cannot be opened: {error}", hint="check the directory and its permissions"
        ) from error
    try:
        if not read_only:
            _prepare(connection, max_bytes)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{path}: {error}", hint=advice(error, path)) from error
    if version != VERSION:
        connection.close()
        raise StoreError(f"{path}: history format {version}, this version reads {VERSION}",
                         hint="move the file away, or use the version that wrote it")  # fmt: skip
    return connection


def advice(error: sqlite3.Error, path: Path) -> str | None:
    """What to do about it. Only a damaged file is to be moved: with any other goes the budget that is in it."""
    if is_damage(error):
        return f"`slo watch` sets it aside; by hand: mv {path} {path}.damaged"
    return advice_on(error, "free space, or raise watch.store.max_size" if "full" in str(error) else None)


def _prepare(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Settings of a writer, and the tables of a new file, created whole or not at all."""
    fresh = connection.execute("PRAGMA page_count").fetchone()[0] == 0
    if fresh:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    # Database three quarters, log the rest: the hard limits behind what compaction keeps to by itself.
    pages = max(max_bytes, SMALLEST_BYTES) // PAGE_BYTES
    connection.execute(f"PRAGMA max_page_count = {pages * 3 // 4}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {max(16, pages // 16)}")
    connection.execute(f"PRAGMA journal_size_limit = {max(max_bytes, SMALLEST_BYTES) // 8}")
    connection.execute("PRAGMA cache_size = -2000")
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or none of it; nested blocks join the outer one."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # A full disk makes SQLite roll back by itself; a second rollback would hide the first error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def only_watcher(path: Path) -> Iterator[None]:
    """Hold the right to be the one watcher of the history at `path`: two would count every request twice.

    Raises `StoreError` with the other's process id. The kernel frees the lock however its holder ends.
    """
    try:
        private_folder(path.parent)
        handle = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreError(
            f"{path.with_suffix('.lock')}: cannot be opened: {error.strerror}",
            hint="check the directory and its permissions, or set state_dir to another place",
        ) from error
    try:
        try:
            mine = locked(handle)
        except OSError as error:
            raise StoreError(
                f"{path.with_suffix('.lock')}: cannot be locked: {error.strerror}",
                hint="its disk takes no locks: set state_dir to a local one",
            ) from error
        if not mine:
            other = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise StoreError(f"{path} is being written by another watcher, process {other}",
                             hint="stop it, or give another state directory")  # fmt: skip
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode("ascii"), 0)
        yield
    finally:
        os.close(handle)
