"""
A history file that is damaged: put aside under another name, and what can be read of the budget taken over.

Damage is what SQLite calls so, when it opens the file or in the middle of it. A file that is locked, of another version
or not readable for us is none: moving that away would lose what is in it.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

SIGNS = ("file is not a database", "malformed", "file is encrypted")
KEPT = 3  # damaged files; older ones go, so that a dying disk does not fill up
# Figures and agreements alone: what else a damaged row may hold is not worth the risk of believing it.
_TABLES = {
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
        for table, query in _TABLES.items():
            with suppress(sqlite3.Error):  # up to the damage, which is why we are here
                for row in damaged.execute(query):
                    marks = ", ".join("?" * len(row))
                    taken += connection.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row).rowcount  # noqa: S608
    return taken
