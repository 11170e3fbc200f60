"""`slo doctor` and `slo validate`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from slo.cli.main import cli, run
from slo.config import Config, variables
from tests.servers import settings, write_config


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> Config:
    return settings(tmp_path, tiny_model)


@pytest.fixture
def file(config: Config, tmp_path: Path) -> str:
    return str(write_config(config, tmp_path / "slo.yaml"))


def test_doctor_shows_every_check_and_changes_nothing(
    file: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["doctor", "--config", file, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    names = [check["name"] for check in report["checks"]]
    assert names == ["system", "python", "xinference", "torch", "cpu", "cores", "memory", "disk", "open files", "state",
                     "privacy", "log", "port", "model"]  # fmt: skip
    assert {check["level"] for check in report["checks"]} <= {"pass", "warn"}
    assert not config.state_dir.exists()
    assert run(cli, ["doctor", "--config", file]) == 0
    assert "128 dimensions" in " ".join(capsys.readouterr().out.split())


def test_doctor_fails_with_code_2_and_says_what_to_do(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = config.replaced(**{"server.log": "/proc/none/log", "model.path": tmp_path})
    file = write_config(broken, tmp_path / "broken.yaml")
    assert run(cli, ["doctor", "--config", str(file), "--json"]) == 2
    failed = {c["name"]: c for c in json.loads(capsys.readouterr().out)["checks"] if c["level"] == "fail"}
    assert set(failed) == {"log", "model"}
    assert all(check["fix"] for check in failed.values())
    assert "config.json: missing" in failed["model"]["value"]


def test_doctor_fails_on_an_unreadable_record(file: str, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    config.state_dir.mkdir()
    (config.state_dir / "server.json").write_text("{", encoding="utf-8")
    assert run(cli, ["doctor", "--config", file, "--json"]) == 2
    assert "state record" in capsys.readouterr().out


def test_validate_prints_settings_that_can_be_read_back(
    file: str, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["validate", "--config", file]) == 0
    assert Config.model_validate(yaml.safe_load(capsys.readouterr().out)) == config
    assert run(cli, ["validate", "--config", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["server"]["port"] == config.server.port


def test_validate_lists_every_variable(file: str, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["validate", "--config", file, "--variables"]) == 0
    lines = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == [name for name, _ in variables()]
    assert lines["SLO_SERVER_PORT"] == str(config.server.port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("server: {port: 99999}", "server.port", id="out of range"),
        pytest.param("server: {prot: 1}", "server.prot: no such setting", id="misspelt"),
        pytest.param("server: {auth: maybe}", "server.auth", id="not one of the words"),
        pytest.param("model: [", "slo.yaml:1", id="not YAML"),
    ],
)
def test_validate_names_what_is_wrong_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    (tmp_path / "slo.yaml").write_text(text, encoding="utf-8")
    assert run(cli, ["validate", "--config", str(tmp_path / "slo.yaml")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("word", "meant"), [("on", "on"), ("off", "off"), ("auto", "auto")])
def test_on_and_off_mean_the_words_although_yaml_reads_booleans(tmp_path: Path, word: str, meant: str) -> None:
    read = yaml.safe_load(f"server: {{auth: {word}}}\nmodel: {{stand_in: off}}")
    assert Config.model_validate(read).server.auth == meant
    assert Config.model_validate(read).model.stand_in == "off"
