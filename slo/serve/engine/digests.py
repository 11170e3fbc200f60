"""
SHA-256 of large files, computed once per content and not at every start: a model's weights take a second or more.

A digest is kept for as long as the file is the same inode with the same size, modification and change time. The
change time cannot be set by a program, so a file that was written to is always read again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from slo.errors import StoreError
from slo.files import write_atomically
from slo.serve.engine.model_files import file_digest

WORTH_BYTES = 1 << 20  # smaller ones are read faster than looked up safely
SETTLED_NS = 2_000_000_000  # a file changed this recently may change again without a new time stamp


class Digests:
    """Digests remembered in `file`, which may be missing or damaged: then everything is computed again."""

    def __init__(self, file: Path, compute: Callable[[Path], bytes] = file_digest) -> None:
        self._file = file
        self._compute = compute
        self._known = self._read()

    def __call__(self, path: Path) -> bytes:
        """The digest of `path`. Raises OSError if it cannot be read."""
        before = _identity(path)
        if before[2] < WORTH_BYTES:
            return self._compute(path)
        key = " ".join(map(str, before))
        found = self._known.get(str(path.absolute()))
        if found is not None and found[0] == key:
            return bytes.fromhex(found[1])
        digest = self._compute(path)
        settled = time.time_ns() - max(before[3:]) > SETTLED_NS
        if settled and _identity(path) == before:
            self._known[str(path.absolute())] = (key, digest.hex())
            self._write()
        return digest

    def _read(self) -> dict[str, tuple[str, str]]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {str(path): (str(key), bytes.fromhex(digest).hex()) for path, (key, digest) in content.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        """Replace the file; two processes that do so at once know the same or a little less."""
        known = {path: entry for path, entry in self._known.items() if Path(path).exists()}
        try:
            write_atomically(self._file, json.dumps(known, indent=1))
        except StoreError:
            return  # a read-only or full disk costs the next start a second, nothing else


def _identity(path: Path) -> tuple[int, ...]:
    """What changes whenever the content does: device, inode, size, and the times of modification and change."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
