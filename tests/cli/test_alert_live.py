"""`slo alert drill --live` on a real Xinference that agrees to be slowed down: proven, and quick again afterwards."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import requests

from slo.cli.main import cli, run
from slo.client import EmbeddingsClient
from tests.servers import Server, write_config
from tests.watch.delivery.sinks.receiver import Answer, Receiver

pytestmark = [pytest.mark.server, pytest.mark.shares("the server for drills")]


def test_the_real_server_is_slowed_down_told_and_healed(
    tmp_path: Path, drilled: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = drilled.config.replaced(**{"alerts.webhook.enabled": True, "alerts.console.enabled": False})
    with Receiver(lambda _: Answer("")) as hook:
        monkeypatch.setenv("SLO_WEBHOOK_URL", hook.url("/hook"))
        file = write_config(config, tmp_path / "drill.yaml")
        assert run(cli, ["alert", "drill", "--live", "--sink", "webhook", "--json", "--config", str(file)]) == 0
        assert [request.json["status"] for request in hook.requests][:1] == ["firing"]
        assert hook.requests[-1].json["status"] == "resolved"
    assert json.loads(capsys.readouterr().out)["proven"] is True
    control = requests.get(f"{drilled.endpoint}/slo/api/status", timeout=20).json()["control"]
    assert control["delay_ms"] == 0
    assert "held back for 200 ms" in str(control["actions"])
    with EmbeddingsClient(drilled.endpoint, drilled.model) as client:
        client.embed(f"{time.time_ns()}")
