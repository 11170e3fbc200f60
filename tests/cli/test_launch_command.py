"""`slo init`, `launch`, `stop`, `status`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.config import Config, load


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_settings_that_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["init"]) == 0
    assert capsys.readouterr().out == "wrote configs/slo.yaml\n"
    assert load() == Config()


def test_init_leaves_a_file_alone_that_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("objective: p95 <= 80ms\n", encoding="utf-8")
    assert run(cli, ["init", "mine.yaml"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("mine.yaml").read_text(encoding="utf-8") == "objective: p95 <= 80ms\n"
    assert run(cli, ["init", "mine.yaml", "--force"]) == 0
    assert "Every key stands here" in Path("mine.yaml").read_text(encoding="utf-8")


def test_init_says_what_it_cannot_write(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("", encoding="utf-8")
    assert run(cli, ["init", "file/slo.yaml"]) == 2
    assert "file: cannot be created" in capsys.readouterr().err


def test_where_nothing_was_launched_stop_is_fine_and_status_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("slo.yaml").write_text("server: {port: 1}\n", encoding="utf-8")
    assert run(cli, ["stop", "--config", "slo.yaml"]) == 0
    assert "nothing to stop" in capsys.readouterr().out
    assert run(cli, ["status", "--config", "slo.yaml", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["state"] == "down"
