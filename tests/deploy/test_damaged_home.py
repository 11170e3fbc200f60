"""Damaged files of Xinference itself, which would keep every start from succeeding."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from rich.console import Console

from slo.clock import SystemClock
from slo.config import Config
from slo.deploy.job import LaunchJob, Progress
from slo.deploy.machine import this_machine
from slo.deploy.server import set_damaged_aside
from slo.errors import StartError

GARBAGE = b"\x00garbage{" * 300


@pytest.fixture
def job(tmp_path: Path) -> Iterator[LaunchJob]:
    for name in ("download_tasks", "launch_history", "auth/auth"):
        file = tmp_path / "xinference" / f"{name}.db"
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE kept (word TEXT)")
    model = tmp_path / "xinference" / "model" / "v2" / "embedding" / "m.json"
    model.parent.mkdir(parents=True)
    model.write_text('{"model_name": "m"}', encoding="utf-8")
    with ExitStack() as undo:
        yield LaunchJob(
            config=Config.model_validate({"state_dir": tmp_path}), progress=Progress(Console(file=io.StringIO())),
            clock=SystemClock(), machine=this_machine(), undo=undo,
        )  # fmt: skip


def names(job: LaunchJob) -> list[str]:
    home = job.config.state_dir / "xinference"
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_what_is_whole_stays(job: LaunchJob) -> None:
    before = names(job)
    set_damaged_aside(job, auth_on=True)
    assert [name for name in names(job) if not name.endswith(("-wal", "-shm"))] == before


@pytest.mark.parametrize("place", ["download_tasks.db", "auth/auth.db", "model/v2/embedding/m.json"])
def test_what_is_damaged_is_set_aside_and_told(job: LaunchJob, place: str) -> None:
    file = job.config.state_dir / "xinference" / place
    file.write_bytes(GARBAGE)
    file.with_name(f"{file.name}-wal").write_bytes(GARBAGE)
    set_damaged_aside(job, auth_on=False)
    assert not file.exists()
    assert not file.with_name(f"{file.name}-wal").exists()
    (aside,) = file.parent.glob(f"{file.name}.damaged-*[0-9]")
    assert aside.read_bytes() == GARBAGE


def test_accounts_are_never_set_aside_where_they_are_asked_for(job: LaunchJob) -> None:
    file = job.config.state_dir / "xinference" / "auth" / "auth.db"
    file.write_bytes(GARBAGE)
    with pytest.raises(StartError, match="API keys cannot be read"):
        set_damaged_aside(job, auth_on=True)
    assert file.read_bytes() == GARBAGE
