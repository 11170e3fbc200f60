"""`slo alert`: what works says so, what does not is explained, and the drill proves the whole chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.config import Config
from slo.watch.delivery.channels import open_outbox
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration with nothing but a webhook and DingTalk; addresses come with each test."""
    file = tmp_path / "slo.yaml"
    file.write_text(
        f"state_dir: {tmp_path / 'state'}\n"
        "alerts:\n  console: {enabled: false}\n  file: {enabled: false}\n"
        "  webhook: {enabled: true}\n  dingtalk: {enabled: true}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("SLO_WEBHOOK_URL", "http://127.0.0.1:9/hook")
    monkeypatch.setenv("SLO_DINGTALK_URL", "http://127.0.0.1:9/robot/send?access_token=token-token")
    return str(file)


def dingtalk_without_keyword(_: Request) -> Answer:
    return Answer({"errcode": 310000, "errmsg": "description:keywords not in content"})


def test_each_channel_says_ok_or_what_is_wrong(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Receiver(lambda _: Answer("")) as hook, Receiver(dingtalk_without_keyword) as robot:
        monkeypatch.setenv("SLO_WEBHOOK_URL", hook.url("/hook"))
        monkeypatch.setenv("SLO_DINGTALK_URL", robot.url("/robot/send?access_token=token-token"))
        assert run(cli, ["alert", "test", "--config", config]) == 1
        assert [request.json["status"] for request in hook.requests] == ["firing", "resolved"]
        assert len(robot.requests) == 1
    said = capsys.readouterr().out
    assert "ok   webhook        firing" in said
    assert "ok   webhook        resolved" in said
    assert "FAIL dingtalk       firing" in said
    assert "→ 关键词不匹配" in said
    assert "→ keyword missing: put the robot's keyword into alerts.dingtalk.keyword" in said
    assert "token-token" not in said


def test_one_channel_can_be_chosen_and_json_is_the_product(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Receiver(lambda _: Answer("")) as hook:
        monkeypatch.setenv("SLO_WEBHOOK_URL", hook.url("/hook"))
        assert run(cli, ["alert", "test", "--sink", "webhook", "--json", "--config", config]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["channel"], row["step"], row["delivered"]) for row in rows] == [
        ("webhook", "firing", True),
        ("webhook", "resolved", True),
    ]


def test_a_channel_that_is_not_set_up_is_a_usage_error(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["alert", "test", "--sink", "slack", "--config", config]) == 2
    assert "there are: webhook, dingtalk" in capsys.readouterr().err


def test_the_drill_proves_fire_delivery_and_resolve(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Receiver(lambda _: Answer("")) as hook:
        monkeypatch.setenv("SLO_WEBHOOK_URL", hook.url("/hook"))
        assert run(cli, ["alert", "drill", "--sink", "webhook", "--json", "--config", config]) == 0
        statuses = [request.json["status"] for request in hook.requests]
        titles = [request.json["commonAnnotations"]["summary"] for request in hook.requests]
    assert statuses == ["firing", "resolved"]
    assert all(title.startswith("[演练] ") for title in titles)
    result = json.loads(capsys.readouterr().out)
    assert result["proven"] is True
    assert result["severity"] == "critical"
    assert result["fired_after_s"] <= 180
    assert result["resolved_after_s"] <= 180
    assert result["channels"][0]["firing_delivered_s"] < 60


def test_a_drill_that_nobody_hears_of_is_not_proven(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with Receiver(dingtalk_without_keyword) as robot:
        environ = pytest.MonkeyPatch()
        environ.setenv("SLO_DINGTALK_URL", robot.url("/robot/send?access_token=token-token"))
        try:
            assert run(cli, ["alert", "drill", "--sink", "dingtalk", "--config", config]) == 1
        finally:
            environ.undo()
    said = capsys.readouterr().out
    assert "dingtalk       firing    delivered never" in said
    assert "关键词不匹配" in said
    assert said.endswith("NOT proven\n")


def test_status_shows_what_is_stuck_and_retry_sends_it(
    config: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, ["alert", "status", "--config", config]) == 0
    assert capsys.readouterr().out == "nothing undelivered\n"
    answers = [Answer("gone", status=410)]
    with Receiver(lambda _: answers[0]) as hook:
        monkeypatch.setenv("SLO_WEBHOOK_URL", hook.url("/hook"))
        settings = Config().replaced(
            **{
                "state_dir": tmp_path / "state", "alerts.webhook.enabled": True,
                "alerts.console.enabled": False, "alerts.file.enabled": False,
            }
        )  # fmt: skip
        with open_outbox(settings) as outbox:
            outbox.put(note())
            outbox.pump()
        assert run(cli, ["alert", "status", "--config", config]) == 1
        assert "undelivered: webhook: 1 dead" in capsys.readouterr().out
        answers[0] = Answer("", status=204)
        assert run(cli, ["alert", "retry", "--config", config]) == 0
        assert run(cli, ["alert", "status", "--config", config]) == 0


def test_a_live_drill_needs_a_server_that_agrees(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": {"message": "only where serve.drill is true"}}
    with Receiver(lambda _: Answer(refusal, status=403)) as server:
        monkeypatch.setenv("SLO_SERVER_ENDPOINT", server.url(""))
        assert run(cli, ["alert", "drill", "--live", "--config", config]) == 2
        assert [request.path for request in server.requests] == ["/slo/api/control"]
    error = capsys.readouterr().err
    assert "refuses to be slowed down" in error
    assert "set serve.drill: true" in error
    assert "Traceback" not in error
