"""Remedies on a real Xinference: a replica that serves and goes again, and admission that sheds and queues again."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from slo.cli.main import cli, run
from slo.cli.remedies import Addition, executors, order
from slo.serve.telemetry.telemetry import MAX_COMPUTED
from slo.watch.sli.scrape import REPLICAS
from tests.real_servers import until
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]


def status(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{server.endpoint}/slo/api/status", timeout=20).json()
    return found


def replicas(server: Server) -> list[str]:
    return [replica["uid"] for model in status(server)["models"] for replica in model["replicas"]]


def computed(server: Server) -> dict[str, int]:
    """Requests answered so far by replica."""
    page = requests.get(f"{server.endpoint}/slo/metrics", timeout=20).text
    found = re.findall(rf'{REPLICAS}_count{{.*?code="2xx".*?replica="([^"]+)"}} ([\d.]+)', page)
    assert len(found) <= MAX_COMPUTED
    return {replica: int(float(count)) for replica, count in found}


def codes(server: Server, requests_: int, *, at_once: int, texts: int = 1, characters: int = 20) -> Counter[int]:
    """Ask `requests_` times, `at_once` side by side; how often each status came."""
    stamp = time.time_ns()

    def ask(number: int) -> int:
        row = [f"{stamp} {number} {index} ".ljust(characters, "字") for index in range(texts)]
        body = {"model": server.model, "input": row}
        return requests.post(f"{server.endpoint}/v1/embeddings", json=body, timeout=60).status_code

    with ThreadPoolExecutor(at_once) as pool:
        return Counter(pool.map(ask, range(requests_)))


@pytest.fixture
def queueing(server: Server) -> Iterator[Server]:
    """The server while admission only queues; as it was configured afterwards."""
    order(server.config, {"action": "admission", "policy": "queue"})
    yield server
    order(server.config, {"action": "admission", "policy": server.config.serve.admission.policy})


def test_a_replica_is_added_to_the_running_model_serves_and_is_removed_by_its_undo(queueing: Server) -> None:
    server, said = queueing, list[str]()
    (first,) = replicas(server)
    addition = Addition(server.config, said.append)
    try:
        until("the replica is added", lambda: bool(said), timeout_s=600)
        assert re.fullmatch(rf"action add_replica: replica \d+ of {server.model} is up", said[0]), said
        until("the front door has found it", lambda: len(replicas(server)) == 2, timeout_s=120)
        (second,) = set(replicas(server)) - {first}
        before = computed(server)
        assert codes(server, 120, at_once=12) == {200: 120}
        served = {name: count - before.get(name, 0) for name, count in computed(server).items()}
        assert sum(served.values()) == 120
        assert min(served[first], served[second]) > 10, served
    finally:
        addition.undo()
    assert codes(server, 40, at_once=8) == {200: 40}, "what it was computing goes to the other"
    until("it is gone", lambda: replicas(server) == [first], timeout_s=120)
    before = computed(server)
    assert codes(server, 20, at_once=4) == {200: 20}
    after = computed(server)
    assert after[first] - before[first] == 20
    assert after[second] == before[second]


def test_people_give_the_same_orders_and_see_what_is_in_force(
    queueing: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(queueing.config_file)]
    assert run(cli, ["control", "admission", "shed", *config]) == 0
    assert capsys.readouterr().out == "admission queue → shed\n"
    assert run(cli, ["control", "show", *config]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"admission  shed\nreplicas   {queueing.model}: {replicas(queueing)[0]}\n")
    assert "admission queue → shed  (by " in shown
    assert run(cli, ["control", "remove-replica", "0", *config]) == 2, "the only one"
    assert len(replicas(queueing)) == 1


def test_shedding_refuses_what_would_be_late_until_it_is_undone(queueing: Server) -> None:
    server = queueing

    def flood() -> Counter[int]:
        return codes(server, 60, at_once=60, texts=4, characters=400)

    assert status(server)["control"]["policy"] == "queue"
    assert flood() == {200: 60}
    shed = executors(server.config.replaced(**{"serve.admission.policy": "queue"}), None, print)["shed"]
    undo = shed()
    assert undo is not None
    assert status(server)["control"]["policy"] == "shed"
    shedding = flood()
    assert set(shedding) == {200, 429}, shedding
    assert shedding[429] > 10
    undo()
    assert status(server)["control"]["policy"] == "queue"
    assert flood() == {200: 60}
