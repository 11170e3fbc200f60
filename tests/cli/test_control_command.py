"""`slo control`: what is ordered, how it is noted, and what is refused. On the real server: test_remedies_live.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from slo.cli.main import cli, run
from slo.config import Config
from slo.watch.history.event_log import read
from slo.watch.history.store import Store
from slo.watch.wiring import history_path
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request


@pytest.fixture
def server() -> Iterator[Receiver]:
    def rules(request: Request) -> Answer:
        if request.path.endswith("/replicas"):
            return Answer({"replica_id": 3})
        return Answer({"said": f"done: {request.json['action']}"})

    with Receiver(rules) as receiver:
        yield receiver


@pytest.fixture
def file(server: Receiver, tmp_path: Path) -> str:
    path = tmp_path / "slo.yaml"
    settings = {"state_dir": str(tmp_path / "state"), "server": {"endpoint": server.url("")}}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "path", "body", "said"),
    [
        (["admission", "shed"], "/slo/api/control", {"action": "admission", "policy": "shed"}, "done: admission"),
        (["clear-cache"], "/slo/api/control", {"action": "clear_cache"}, "done: clear_cache"),
        (["add-replica"], "/v1/models/gte-base-zh/replicas", {"replica": 1}, "replica 3 of gte-base-zh added"),
    ],
)
def test_an_order_is_given_said_and_noted_as_a_change(
    arguments: list[str], path: str, body: dict[str, object], said: str,
    server: Receiver, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(cli, ["control", *arguments, "--config", file]) == 0
    (request,) = server.requests
    assert (request.path, request.json) == (path, body)
    assert capsys.readouterr().out == f"{said}\n"
    config = Config.model_validate({"state_dir": tmp_path / "state"})
    with Store(history_path(config)) as store:
        (event,) = read(store, "change", 0)
    assert event.subject == said
    assert event.author


def test_a_history_that_cannot_be_written_does_not_undo_the_order(
    server: Receiver, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state" / "history.db").mkdir(parents=True)  # in the way
    assert run(cli, ["control", "clear-cache", "--config", file]) == 0
    out, err = capsys.readouterr()
    assert out == "done: clear_cache\n"
    assert "warning: not noted in the history" in err


def test_what_the_server_refuses_is_an_error_that_says_so(file: str, server: Receiver, tmp_path: Path) -> None:
    server.rules = lambda _: Answer({"error": {"message": "no"}}, status=403)
    assert run(cli, ["control", "admission", "shed", "--config", file]) == 2
    assert not (tmp_path / "state" / "history.db").exists()


@pytest.mark.parametrize("arguments", [["admission"], ["admission", "both"], ["remove-replica", "x"], ["explode"]])
def test_nonsense_is_a_usage_error_and_reaches_nobody(arguments: list[str], file: str, server: Receiver) -> None:
    assert run(cli, ["control", *arguments, "--config", file]) == 2
    assert server.requests == []
