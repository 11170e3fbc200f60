"""Files and folders that are there whole or not at all, and locks that end with their holders."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def fresh_tree(final: Path) -> Iterator[Path]:
    """A new folder beside `final`, to be filled in the block; then it takes that place, readable by all and on disk.

    A block that fails leaves no trace. A folder with content cannot be renamed over: the old one steps aside first.
    """
    fresh = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    old = fresh.with_name(f"{fresh.name}.old")
    try:
        yield fresh
        fresh.chmod(0o755)  # temporary folders are private
        for path in [*fresh.rglob("*"), fresh]:  # the rename must not outlive the content
            sync(path)
        if final.exists():
            final.rename(old)
        fresh.rename(final)
        sync(final.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Bring a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def locked(file: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed, by whatever end of its holder. False where another has it.

    Raises `OSError` on a disk that takes no lock.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
