"""On a real Xinference: launching while the model is dying, dead, and coming back ends with a model that answers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import requests
from rich.console import Console

from slo.client import EmbeddingsClient
from slo.deploy.launch import launch
from slo.deploy.progress import Progress
from slo.deploy.state import read_state
from tests.real_servers import until
from tests.servers import Server

pytestmark = pytest.mark.server


def engine_pid(server: Server) -> int | None:
    status = requests.get(f"{server.endpoint}/slo/api/status", timeout=20).json()
    return next((r["engine"].get("pid") for model in status["models"] for r in model["replicas"]), None)


@pytest.mark.timeout(240)
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
