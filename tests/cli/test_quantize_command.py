"""`slo quantize` on the tiny stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.deploy.standin import write_standin


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose state directory outlives one test, so that the second finds what the first made."""
    folder = tmp_path_factory.mktemp("quantize")
    write_standin(folder / "model", size="tiny")
    file = folder / "slo.yaml"
    file.write_text(f"state_dir: {folder / 'state'}\nmodel: {{path: {folder / 'model'}, download: false}}\n")
    return file


def test_int8_is_made_judged_and_found_again(settings: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for _ in range(2):
        assert run(cli, ["quantize", "--config", str(settings), "--precision", "int8", "--json"]) == 0
        report = json.loads(capfdbinary.readouterr().out)
        assert report["precision"] == "int8"
        assert report["stand_in"] is True
        assert report["fidelity"]["int8"]["mean_cosine"] >= 0.995
    made = [path.name for path in (settings.parent / "state" / "models").rglob("graph.xml")]
    assert len(made) == 2, "one fp32 and one int8 graph, made once"


def test_the_report_says_which_weights_it_is_about(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["quantize", "--config", str(settings), "--precision", "fp32"]) == 0
    text = capsys.readouterr().out
    assert "served in fp32" in text
    assert "stand-in weights" in text


def test_a_missing_model_directory_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(f"state_dir: {tmp_path / 'state'}\n")
    gone = tmp_path / "nowhere"
    assert run(cli, ["quantize", "--config", str(file), "--model-path", str(gone)]) == 2
    assert f"{gone}: no such model directory" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()
