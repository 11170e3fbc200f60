"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from slo.errors import StoreError

BUSY = "another process holds it, such as a backup or an sqlite3 shell: end that and try again; nothing is lost"


def private_folder(path: Path) -> None:
    """Create `path`, and what is missing above it, for its owner alone: state holds keys and addresses."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(exist_ok=True)  # raises where it is a file


def usual_folder(path: Path) -> None:
    """Create `path` for what people publish: with the mode that they have chosen by umask."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be created: {error.strerror}", hint="give another place") from error


def advice_on(error: Exception, otherwise: str | None) -> str | None:
    """What to do about a failure of SQLite; a file that is merely locked must not be moved away."""
    return BUSY if "locked" in str(error) or "busy" in str(error) else otherwise


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write, fsync, rename: readers see the old file or the new one. Raises `StoreError` naming `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        private_folder(path.parent)
        # Made anew: one that lies there already may have another mode, or be somebody's link to another file.
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # the first problem is the one to tell
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}", hint="free space, or fix its permissions"
        ) from error
