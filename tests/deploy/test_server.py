"""The whole path on a real Xinference: launch, look, launch again, replace the model, stop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from rich.console import Console

from slo.cli.launch_command import launch_model_server
from slo.cli.main import cli, run
from slo.client import EmbeddingsClient
from slo.deploy.catalogue import STAND_IN_REVISION
from slo.deploy.checks import Level
from slo.deploy.doctor import check_port
from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.marks import known_server
from slo.deploy.state import read_state
from slo.deploy.status import status
from slo.deploy.xinference_api import XinferenceApi
from tests.real_servers import until
from tests.servers import Server, settings, write_config

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]

SCRIPT = Path(__file__).parents[2] / "launch_model_server.py"


def test_the_model_is_listed_with_the_label_of_its_weights(server: Server) -> None:
    api = XinferenceApi(server.endpoint)
    (model,) = [entry for entry in api.models() if entry["id"] == server.model]
    known = api.registration(server.model)
    api.close()
    assert model["dimensions"] == server.dimension == 128
    assert model["model_revision"] == STAND_IN_REVISION
    assert known is not None
    assert known["model_description"].startswith("stand-in weights")


def test_log_and_summary_end_with_the_same_line(server: Server) -> None:
    last = server.log.read_text(encoding="utf-8").splitlines()
    loaded = [line for line in last if "Model loaded" in line]
    assert loaded, "and more of them where a test before this one has launched again"
    assert loaded[0].endswith(str(server.launched))
    assert "128 dimensions" in loaded[0]
    assert "stand-in weights" in loaded[0]


def test_a_kept_alive_connection_waits_for_no_delayed_acknowledgement(server: Server) -> None:
    with EmbeddingsClient(server.endpoint, server.model) as client:
        seconds = []
        for number in range(30):
            start_s = time.perf_counter()
            client.embed(f"第{number}个文本")
            seconds.append(time.perf_counter() - start_s)
    assert min(seconds[5:]) < 0.040, "Nagle's algorithm would hold back every one of them for 40 ms"


def test_launching_again_changes_nothing_and_is_quick(server: Server) -> None:
    record = (server.state_dir / "server.json").read_bytes()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--config", str(server.config_file), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    again = json.loads(done.stdout)
    assert again["changed"] is False
    assert again["pid"] == server.launched.pid
    assert again["first"] is None
    assert (server.state_dir / "server.json").read_bytes() == record


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--host", "127.0.0.2"], "host: 127.0.0.1 → 127.0.0.2", id="host"),
        pytest.param(["--log", "/tmp/elsewhere.log"], "→ /tmp/elsewhere.log", id="log"),  # noqa: S108
        pytest.param(["--stock"], "stock: False → True", id="stock"),
    ],
)
def test_a_setting_that_needs_a_restart_is_named(
    server: Server, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(launch_model_server, ["--config", str(server.config_file), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "--restart" in error


def test_status_says_up_to_people_and_programs(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    found = status(server.config)
    assert (found.state, found.pid, found.replicas) == ("up", server.launched.pid, {"ready": 1})
    assert found.processes >= 3, "server, cluster, model"
    assert run(launch_model_server, ["--config", str(server.config_file), "--status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stand_in"] is True
    assert run(launch_model_server, ["--config", str(server.config_file), "--status"]) == 0
    assert "1 ready" in capsys.readouterr().out


def test_similarity_is_printed_with_the_label_of_the_weights(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    def similarity(*arguments: str) -> tuple[str, str]:
        assert run(cli, ["similarity", "--config", str(server.config_file), *arguments]) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    related, label = similarity("今天天气怎么样", "今天的天气好不好")
    unrelated, _ = similarity("今天天气怎么样", "苹果公司财报")
    assert float(related) > float(unrelated)
    assert "stand-in weights" in label
    result = json.loads(similarity("--json", "你好", "你好")[0])
    assert result["similarity"] == pytest.approx(1.0, abs=1e-3)
    assert result["stand_in"] is True


def test_other_code_over_a_running_server_is_pointed_out(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not status(server.config).outdated
    monkeypatch.setattr("slo.deploy.server.code_digest", lambda: "tomorrow's")
    monkeypatch.setattr("slo.deploy.status.code_digest", lambda: "tomorrow's")
    assert status(server.config).outdated
    with (tmp_path / "launch.txt").open("w", encoding="utf-8") as report:
        assert not launch(server.config, Progress(Console(file=report, width=200))).changed
    assert "runs other code" in (tmp_path / "launch.txt").read_text(encoding="utf-8")
    assert run(launch_model_server, ["--config", str(server.config_file), "--status"]) == 0
    assert "other than is installed here" in capsys.readouterr().out


def test_a_server_without_a_record_is_known_by_its_marks(server: Server) -> None:
    record = (server.state_dir / "server.json").read_bytes()
    own = read_state(server.state_dir)
    assert own is not None
    (server.state_dir / "server.json").unlink()
    try:
        found = known_server(server.state_dir)
        assert found is not None
        assert found.with_model(own.model) == own
        assert status(server.config).pid == own.pid
    finally:
        (server.state_dir / "server.json").write_bytes(record)


def test_the_port_of_our_own_server_is_no_problem(server: Server) -> None:
    check = check_port(server.config, read_state(server.state_dir))
    assert check.level is Level.PASS
    assert "our server's" in check.value


def test_a_server_of_someone_else_is_used_and_left_running(
    server: Server, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(settings(tmp_path, tiny_model), tmp_path / "slo.yaml")
    assert run(launch_model_server, ["--config", str(file), "--endpoint", server.endpoint, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert run(launch_model_server, ["--config", str(file), "--endpoint", server.endpoint, "--status"]) == 0
    assert run(launch_model_server, ["--config", str(file), "--stop"]) == 0
    assert status(server.config).up


def test_the_log_cannot_be_forged_and_is_reopened_when_it_was_moved(server: Server) -> None:
    forged = "2026-01-01T00:00:00.000Z CRITICAL forged record"
    names = [f"no-such-model\n{forged}", f"no-such-model\r{forged}", "no-such-" + "x" * 10_000, "no-such-model"]
    for name in names:
        answer = requests.post(f"{server.endpoint}/v1/embeddings", json={"model": name, "input": "a"}, timeout=30)
        assert answer.status_code == 404
    requests.get(f"{server.endpoint}/v1/models/no-such-model%0A{forged.replace(' ', '%20')}", timeout=30)
    lines = server.log.read_text(encoding="utf-8").splitlines()
    assert not any(line.startswith(forged) for line in lines)
    assert max(map(len, lines)) < 8000
    moved = server.log.with_name("moved.log")
    server.log.rename(moved)
    until("reopened", server.log.exists)
    requests.post(f"{server.endpoint}/v1/embeddings", json={"model": "after-it", "input": "a"}, timeout=30)
    until("written to", lambda: "after-it" in server.log.read_text(encoding="utf-8"))
    whole = moved.read_bytes() + server.log.read_bytes()
    server.log.write_bytes(whole)  # other tests read it
