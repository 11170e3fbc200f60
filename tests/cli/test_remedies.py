"""Remedies as commands and orders: what is given to the server, what is undone, what cannot work and is said so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slo.cli.main import cli, run
from slo.cli.remedies import Addition, executors, impossible
from slo.config import Config
from slo.errors import SloError
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request

ALL = dict.fromkeys(("relaunch_model", "restart_server", "add_replica", "shed", "clear_cache"), True)


def config(tmp_path: Path, endpoint: str | None = None, **changes: Any) -> Config:
    base: dict[str, Any] = {"state_dir": tmp_path / "state", "watch": {"remediation": ALL}}
    return Config.model_validate(base).replaced(**{"server.endpoint": endpoint, **changes})


@pytest.fixture
def server() -> Iterator[Receiver]:
    def rules(request: Request) -> Answer:
        return Answer({"replica_id": 3} if request.path.endswith("/replicas") else {"said": "done"})

    with Receiver(rules) as receiver:
        yield receiver


def test_shedding_is_ordered_and_undone(server: Receiver, tmp_path: Path) -> None:
    undo = executors(config(tmp_path, server.url("")), None, print)["shed"]()
    assert undo is not None
    undo()
    assert [(request.path, request.json["policy"]) for request in server.requests] == [
        ("/slo/api/control", "shed"), ("/slo/api/control", "queue"),
    ]  # fmt: skip


def test_clearing_the_cache_has_nothing_to_undo(server: Receiver, tmp_path: Path) -> None:
    assert executors(config(tmp_path, server.url("")), None, print)["clear_cache"]() is None
    assert server.requests[0].json == {"action": "clear_cache"}


def test_a_replica_is_added_in_the_background(server: Receiver, tmp_path: Path) -> None:
    said: list[str] = []
    Addition(config(tmp_path, server.url("")), said.append)
    deadline_s = time.monotonic() + 60
    while not said and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert said == ["action add_replica: replica 3 of gte-base-zh is up"]
    assert server.requests[0].path == "/v1/models/gte-base-zh/replicas"


def test_a_server_that_does_not_obey_is_an_error_of_ours(tmp_path: Path) -> None:
    with Receiver(lambda _: Answer({"error": {"message": "no"}}, status=403)) as server, pytest.raises(SloError):
        executors(config(tmp_path, server.url("")), None, print)["clear_cache"]()


@pytest.mark.parametrize(
    ("endpoint", "changes", "expected"),
    [
        (None, {"serve.admission.policy": "queue"}, {}),
        (None, {"serve.admission.policy": "shed"}, {"shed": "shed already"}),
        (None, {"serve.enabled": False}, {"shed": "needs the extension", "clear_cache": "needs the extension"}),
        (None, {"serve.admission.policy": "queue", "serve.cache.enabled": False}, {"clear_cache": "nothing to clear"}),
        ("http://127.0.0.1:1", {}, {"relaunch_model": "somebody else's", "restart_server": "somebody else's"}),
        ("http://gpu.example:1", {}, dict.fromkeys(ALL, "")),
    ],
    ids=["all work", "sheds anyway", "stock", "no cache", "foreign, here", "foreign, elsewhere"],
)
def test_what_cannot_work_is_known_beforehand(
    endpoint: str | None, changes: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    asked = config(tmp_path, endpoint, **changes)
    sentences = impossible(asked)
    assert len(sentences) == len(expected)
    for remedy, words in expected.items():
        assert any(f".{remedy} is on" in sentence and words in sentence for sentence in sentences)
    assert set(executors(asked, None, print)) == set(ALL) - set(expected)


def test_validate_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(
        json.dumps({"watch": {"remediation": {"shed": True}}, "serve": {"admission": {"policy": "shed"}}}),
        encoding="utf-8",
    )
    assert run(cli, ["validate", "--config", str(file)]) == 0
    assert "watch.remediation.shed is on, but serve.admission.policy is shed already" in capsys.readouterr().err
