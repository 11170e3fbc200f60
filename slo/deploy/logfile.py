"""
The server's log from inside: reopened when somebody has moved it, and rotated when it has grown.

Only the main process writes to the file (its children write into pipes that it reads), so it alone tends it: a thread
looks once a second. No signal is needed after a `logrotate`, and SIGHUP does nothing.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

KEPT = 3  # predecessors: .1 is the youngest
LOOK_S = 1.0
STANDARD = (1, 2)


class LogFile:
    """The file at `path`, which the open files `fds` write to. `most_bytes` bounds it with all predecessors."""

    def __init__(self, path: Path, most_bytes: int, fds: tuple[int, ...] = STANDARD) -> None:
        self._path = path
        self._share_bytes = most_bytes // (KEPT + 1)
        self._fds = fds

    def tend(self) -> bool:
        """Rotate or reopen, if that is due; True if it was. Raises OSError, and then goes on with the old file."""
        try:
            there, ours = self._path.stat(), os.fstat(self._fds[0])
        except FileNotFoundError:
            self._reopen()
            return True
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self._reopen()
            return True
        if there.st_size < self._share_bytes:
            return False
        for number in range(KEPT, 0, -1):
            older = self._numbered(number)
            with suppress(FileNotFoundError):
                (self._numbered(number - 1) if number > 1 else self._path).replace(older)
        self._reopen()
        return True

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _reopen(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            for fd in self._fds:
                os.dup2(fresh, fd)  # inheritable, as the standard files are
        finally:
            os.close(fresh)


def tend_for_ever(path: Path, most_bytes: int) -> None:
    """Tend the log of this process in a thread; started when nothing is forked from here any more."""
    log = LogFile(path, most_bytes)

    def look() -> None:
        while True:
            time.sleep(LOOK_S)
            with suppress(OSError):  # no permission, no space: the old file serves on
                log.tend()

    threading.Thread(target=look, daemon=True, name="slo-log").start()
