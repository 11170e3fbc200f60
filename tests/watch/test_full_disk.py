"""`slo watch` whose own words find no room: it watches on, and ends as it would have ended."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest

ROOT = Path(__file__).parents[2]


def watch(folder: Path, *options: str, out: IO[Any], err: IO[Any] | int) -> subprocess.CompletedProcess[bytes]:
    """One round at an address where nobody listens: something is said on both streams, and the exit code is 1."""
    return subprocess.run(
        [sys.executable, "-m", "slo", "watch", "--endpoint", "http://127.0.0.1:1", "--interval", "1s", "--count", "1",
         *options],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False,
        stdout=out, stderr=err,
    )  # fmt: skip


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["for people", "for machines"])
def test_a_full_disk_under_standard_output_is_no_traceback(tmp_path: Path, options: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = watch(tmp_path, *options, out=full, err=subprocess.PIPE)
    said = done.stderr.decode()
    assert "watching" in said
    assert "Traceback" not in said
    assert "OSError" not in said
    assert done.returncode == 1


def test_a_full_disk_under_everything_it_says_does_not_end_it(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = watch(tmp_path, out=full, err=full)
    assert done.returncode == 1
    with closing(sqlite3.connect(tmp_path / ".slo" / "history.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (tmp_path / ".slo" / "heartbeat.json").exists()
