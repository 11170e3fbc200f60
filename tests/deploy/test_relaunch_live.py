"""On a real Xinference: launching while the model is dying, dead, and coming back ends with a model that answers."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import requests
from rich.console import Console

from slo.client import EmbeddingsClient
from slo.config import Config
from slo.deploy import machine, relaunch
from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.state import read_state
from slo.errors import DeployError
from tests.real_servers import until
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]


def engine_pid(server: Server) -> int | None:
    status = requests.get(f"{server.endpoint}/slo/api/status", timeout=20).json()
    return next((r["engine"].get("pid") for model in status["models"] for r in model["replicas"]), None)


@pytest.mark.parametrize("wait_s", [0.0, 3.0], ids=["at once", "while Xinference recovers it"])
def test_a_killed_model_is_launched_again(server: Server, tmp_path: Path, wait_s: float) -> None:
    pid = until("the model is seen", lambda: engine_pid(server))
    own = read_state(server.state_dir)
    os.kill(pid, signal.SIGKILL)
    time.sleep(wait_s)
    with (tmp_path / "launch.txt").open("w", encoding="utf-8") as report:
        launched = launch(server.config, Progress(Console(file=report, width=200)))
    assert own is not None
    assert launched.pid == own.pid, "the server itself went on"
    with EmbeddingsClient(server.endpoint, server.model) as client:
        assert len(client.embed(f"{time.time_ns()}").vectors[0]) == server.dimension
    until("another process", lambda: engine_pid(server) not in (None, pid))


@pytest.fixture
def spoilt(server: Server, tiny_model: Path, tmp_path: Path) -> Config:
    """The server's configuration with a model whose tokenizer no engine can read."""
    shutil.copytree(tiny_model, tmp_path / "spoilt")
    (tmp_path / "spoilt" / "tokenizer.json").write_text("{}", encoding="utf-8")
    return server.config.replaced(**{"model.path": tmp_path / "spoilt"})


def failed_launch(config: Config, report: Path) -> str:
    """The message with which a launch fails, and what it told before."""
    with report.open("w", encoding="utf-8") as file, pytest.raises(DeployError) as caught:
        launch(config, Progress(Console(file=file, width=300)))
    return f"{caught.value.message}\n{report.read_text(encoding='utf-8')}"


def test_files_that_do_not_work_leave_the_model_that_serves_alone(
    server: Server, spoilt: Config, tmp_path: Path
) -> None:
    pid = until("the model is seen", lambda: engine_pid(server))
    with EmbeddingsClient(server.endpoint, server.model) as client:
        before = client.embed("一切如常").vectors
        said = failed_launch(spoilt, tmp_path / "launch.txt")
        assert client.embed("一切如常").vectors == before
    assert "tokenizer" in said
    assert "Nothing was changed" in said
    assert engine_pid(server) == pid


def test_a_launch_that_fails_in_the_model_process_puts_the_former_model_back(
    server: Server, spoilt: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaunch, "prove", lambda *_: None)
    with EmbeddingsClient(server.endpoint, server.model) as client:
        before = client.embed("一切如常").vectors
        said = failed_launch(spoilt, tmp_path / "launch.txt")
        assert "the launch failed" in said
        assert "tokenizer" in said, "the reason, not only the fact"
        assert f"{server.model} serves as before" in said
        assert client.embed("一切如常", fresh=True).vectors[0] == pytest.approx(before[0], abs=1e-3)
    own = read_state(server.state_dir)
    assert own is not None
    assert own.model["directory"] == str(server.config.model.path)


def test_a_folder_with_an_odd_name_is_served_like_any_other(server: Server, tiny_model: Path, tmp_path: Path) -> None:
    odd = tmp_path / "模型 dl 100%41#1~" / "gte base"
    odd.parent.mkdir()
    shutil.copytree(tiny_model, odd)
    (tmp_path / "链接").symlink_to(odd.parent)
    config = server.config.replaced(**{"model.path": tmp_path / "链接" / "gte base"})
    with (tmp_path / "launch.txt").open("w", encoding="utf-8") as report:
        progress = Progress(Console(file=report, width=200))
        try:
            launched = launch(config, progress)
            assert launched.plan.directory == str(config.model.path)
            assert launched.plan.engine == "openvino"
            with EmbeddingsClient(server.endpoint, server.model) as client:
                assert len(client.embed("路径", fresh=True).vectors[0]) == server.dimension
        finally:
            launch(server.config, progress)


def test_a_full_disk_does_not_forbid_to_launch_what_serves(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda _: 0)
    with (tmp_path / "launch.txt").open("w", encoding="utf-8") as report:
        launched = launch(server.config, Progress(Console(file=report, width=200)))
    assert not launched.changed
    assert "little room for the log" in (tmp_path / "launch.txt").read_text(encoding="utf-8")
