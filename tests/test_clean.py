"""`make clean` removes the state directory that is configured, and nothing that is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.clean import clean


def test_state_and_logs_go(tmp_path: Path) -> None:
    state, log = tmp_path / "elsewhere", tmp_path / "logs" / "server.log"
    (state / "runs").mkdir(parents=True)
    (state / "history.db").touch()
    log.parent.mkdir()
    for name in ("server.log", "server.log.1", "other.log"):
        (log.parent / name).touch()
    assert clean(state, log) is None
    assert not state.exists()
    assert [path.name for path in log.parent.iterdir()] == ["other.log"]
    assert clean(state, log) is None  # a second time


def test_a_folder_that_is_no_state_directory_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    (project / "work").mkdir(parents=True)
    (project / "runs").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").touch()
    monkeypatch.chdir(project / "work")
    for folder in (project, tmp_path, tmp_path / "theirs"):
        assert "by hand" in (clean(folder, tmp_path / "no.log") or "")
        assert folder.is_dir()
