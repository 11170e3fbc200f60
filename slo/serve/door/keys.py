"""
Xinference's look-up of API keys, with a memory.

The host asks SQLite twice per request, on the event loop that serves everybody: two connections, 1 to 2 ms each. Here
an answer holds for a second, and only as long as nobody has committed anything to the database file since: SQLite
tells (`PRAGMA data_version`) in 10 µs. So whoever revokes a key is obeyed by the next request, whichever process,
route or command did it. Expiry, bans, scopes and model permissions are judged by the host on every request as before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

REMEMBER_S = 1.0
MAX_KEYS = 10_000


class RememberedKeys:
    """Stands before the host's `ApiKeyCache` and is used like it."""

    def __init__(self, inner: Any, now_s: Callable[[], float], version: Callable[[], object | None]) -> None:
        """`version` is another value once anything may have changed; None: not known, so nothing is remembered."""
        self._inner = inner
        self._now_s = now_s
        self._version = version
        self._answers: dict[str, tuple[float, object, tuple[Any, Any]]] = {}

    def get_with_user(self, key_hash: str) -> tuple[Any, Any]:
        """The key's entry and its user; (None, None) for an unknown key, which is asked for anew each time."""
        version = self._version()  # before the question: what changes after it shows next time
        until_s, as_of, known = self._answers.get(key_hash, (0.0, None, (None, None)))
        if version is not None and as_of == version and self._now_s() < until_s:
            return known
        answer: tuple[Any, Any] = self._inner.get_with_user(key_hash)
        if version is not None and None not in answer:
            if len(self._answers) >= MAX_KEYS:
                self._answers.clear()
            self._answers[key_hash] = (self._now_s() + REMEMBER_S, version, answer)
        return answer

    def __getattr__(self, name: str) -> Any:
        # Everything else of the host's cache may change keys.
        self._answers.clear()
        return getattr(self._inner, name)


class DatabaseVersion:
    """What changes with every commit of anybody else to a SQLite file, also when the file itself is replaced."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None

    def __call__(self) -> object | None:
        """The version; None when the file cannot be read."""
        try:
            facts = self._path.stat()
            file = (facts.st_dev, facts.st_ino)
            if self._connection is None or file != self._file:
                self._close()
                self._connection, self._file = self._opened(), file
            row: tuple[int] = self._connection.execute("PRAGMA data_version").fetchone()
            return (*file, *row)
        except (OSError, sqlite3.Error):
            self._close()
            return None

    def _opened(self) -> sqlite3.Connection:
        # Nothing is written by it: it looks for the commits of others. The host may ask from any thread.
        return sqlite3.connect(self._path, timeout=0.05, isolation_level=None, check_same_thread=False)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
