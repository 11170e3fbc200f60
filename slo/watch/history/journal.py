"""`<state_dir>/watch.jsonl`: one line of counts per check, bounded by keeping one older file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from slo.errors import StoreError
from slo.files import private_folder

MAX_BYTES = 4 * 2**20  # about ten days of minutes, and as many in the older file


class Journal:
    """Appends records; a line is written whole, in one call."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes

    def append(self, record: dict[str, Any]) -> None:
        """Write one line. Raises `StoreError` naming the file."""
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        try:
            private_folder(self.path.parent)
            if self.path.exists() and self.path.stat().st_size + len(line) > self._max_bytes:
                self.path.replace(self.path.with_suffix(".jsonl.1"))
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from error
