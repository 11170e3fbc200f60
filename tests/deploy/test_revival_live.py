"""On a real Xinference: whatever process dies, server and model come back by themselves; `--stop` stays a stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from slo.deploy.keeper_link import living_keeper
from slo.deploy.state import ServerState, processes_of, read_state
from slo.deploy.status import status, stop
from slo.host import FIRST_TO_GO
from tests.real_servers import until
from tests.servers import Server, running, settings

pytestmark = [pytest.mark.server, pytest.mark.timeout(1800)]
PATIENCE_S = 240.0  # half a minute on a machine with nothing else to do


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_graphs: Path) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("kept")
    yield from running(settings(directory, tiny_model, restart=True), directory, graphs=tiny_graphs)


def now(server: Server) -> ServerState:
    state = read_state(server.state_dir)
    assert state is not None
    return state


def served(server: Server) -> bool:
    try:
        body = {"model": server.model, "input": "a"}
        return requests.post(f"{server.endpoint}/v1/embeddings", json=body, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def model_pid(server: Server) -> int | None:
    found = requests.get(f"{server.endpoint}/slo/api/status", timeout=20).json()
    return next((r["engine"].get("pid") for model in found["models"] for r in model["replicas"]), None)


def test_the_kernel_would_choose_the_model_process(kept: Server) -> None:
    pid = until("the model is seen", lambda: model_pid(kept))
    scores = {
        process.pid: int(Path(f"/proc/{process.pid}/oom_score_adj").read_text(encoding="ascii"))
        for process in processes_of(now(kept).instance)
    }
    assert scores.pop(pid) == FIRST_TO_GO
    assert max(scores.values()) < FIRST_TO_GO


@pytest.mark.parametrize("victim", ["main", "cluster"])
def test_what_was_killed_comes_back_with_its_model(kept: Server, victim: str) -> None:
    before = now(kept)
    # Forked of the main process: the fork server, and the cluster process, which has children.
    children = [child for child in psutil.Process(before.pid).children() if child.children()]
    os.kill(before.pid if victim == "main" else children[0].pid, signal.SIGKILL)
    until("another server", lambda: now(kept).instance != before.instance, PATIENCE_S)
    until("it serves", lambda: served(kept), PATIENCE_S)
    until("told", lambda: (facts := living_keeper(kept.state_dir)) and facts.next_s is None and facts.restarts, 60)
    assert processes_of(before.instance) == []
    if victim == "cluster":  # main does not first stop politely what can answer nothing any more
        assert f"the cluster process {children[0].pid} ended (code -9)" in kept.log.read_text(encoding="utf-8")
    assert now(kept).model == before.model
    assert status(kept.config).up


def test_a_hangup_ends_nothing(kept: Server) -> None:
    before = now(kept)
    for process in processes_of(before.instance):
        process.send_signal(signal.SIGHUP)
    assert served(kept)
    assert now(kept) == before


def test_a_stop_is_a_stop(kept: Server) -> None:
    before = now(kept)
    assert stop(kept.config, say=lambda _: None) >= 3
    assert processes_of(before.instance) == []
    assert living_keeper(kept.state_dir) is None
    assert read_state(kept.state_dir) is None
