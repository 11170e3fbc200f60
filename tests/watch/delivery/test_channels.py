"""Several channels of one kind: by name, with secrets, limits and routes of their own."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from slo.cli.main import cli, run
from slo.clock import ManualClock
from slo.config import Config, load
from slo.errors import ConfigError
from slo.watch.delivery.channels import build_routes, build_sinks, open_outbox
from slo.watch.model.notification import Severity
from tests.watch.delivery.sinks.receiver import Answer, Receiver, note

TWO = {"oncall": {"kind": "dingtalk", "keyword": "urgent"}, "news": {"kind": "dingtalk"}}
ROUTES = {"critical": ["oncall", "news"], "page": ["oncall"], "ticket": ["news"], "info": ["news"]}


def config(tmp_path: Path, more: dict[str, Any], routes: dict[str, Any] | None = None) -> Config:
    quiet = {"console": {"enabled": False}, "file": {"enabled": False}}
    alerts = {**quiet, "more": more, "routes": routes or {}}
    return Config.model_validate({"state_dir": tmp_path / "state", "alerts": alerts})


def secret_file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def fine(_: object) -> Answer:
    return Answer({"errcode": 0, "errmsg": "ok"})


@pytest.mark.parametrize(
    ("severity", "heard"), [("critical", (1, 1)), ("page", (1, 0)), ("ticket", (0, 1)), ("info", (0, 1))]
)
def test_pages_go_to_the_group_on_call_and_the_rest_to_the_other(
    severity: Severity, heard: tuple[int, int], tmp_path: Path
) -> None:
    with Receiver(fine) as oncall, Receiver(fine) as news:
        url_file = secret_file(tmp_path / "url", oncall.url("/send?access_token=aaaaaa"))
        more = {"oncall": {**TWO["oncall"], "url_file": url_file}, "news": TWO["news"]}
        environ = {"SLO_CHANNEL_NEWS_URL": news.url("/send?access_token=bbbbbb"), "SLO_CHANNEL_NEWS_SECRET": "s"}
        with open_outbox(config(tmp_path, more, ROUTES), environ=environ, console=io.StringIO()) as outbox:
            outbox.put(note(severity=severity))
            attempts = outbox.pump()
        assert (len(oncall.requests), len(news.requests)) == heard
        assert all("sign" in request.query for request in news.requests)
        assert all("sign" not in request.query for request in oncall.requests)
        assert all("urgent" in request.json["markdown"]["text"] for request in oncall.requests)
    assert {attempt.sink for attempt in attempts} == {
        name for name, count in zip(("oncall", "news"), heard, strict=True) if count
    }


def test_each_robot_has_a_limit_of_its_own(tmp_path: Path) -> None:
    with Receiver(fine) as oncall, Receiver(fine) as news:
        environ = {"SLO_CHANNEL_ONCALL_URL": oncall.url("/a?access_token=aaaaaa"),
                   "SLO_CHANNEL_NEWS_URL": news.url("/b?access_token=bbbbbb")}  # fmt: skip
        clock = ManualClock(wall_s=1_700_000_000.0)
        with open_outbox(config(tmp_path, TWO, ROUTES), environ=environ, console=io.StringIO(), clock=clock) as outbox:
            for number in range(40):
                outbox.put(note(event_id=f"t{number}", severity="ticket", title=f"t {number}"))
            outbox.put(note(event_id="p", severity="page"))
            outbox.pump()
            crowded = len(news.requests)
            assert len(oncall.requests) == 1, "the other robot's crowd holds nobody up"
            for _ in range(180):
                clock.advance(1)
                outbox.pump()
            assert outbox.undelivered() == []
        assert 1 <= crowded <= 20


def test_the_same_robot_under_two_names_is_refused(tmp_path: Path) -> None:
    environ = dict.fromkeys(("SLO_CHANNEL_ONCALL_URL", "SLO_CHANNEL_NEWS_URL"), "http://h/send?access_token=aaaaaa")
    with pytest.raises(ConfigError, match="the same address as 'oncall'") as caught:
        build_sinks(config(tmp_path, TWO).alerts, state_dir=tmp_path, environ=environ, console=io.StringIO())
    assert "aaaaaa" not in str(caught.value)


def test_a_channel_without_its_secret_is_an_error_that_names_variable_and_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SLO_CHANNEL_ONCALL_URL") as caught:
        build_sinks(config(tmp_path, TWO).alerts, state_dir=tmp_path, environ={}, console=io.StringIO())
    assert str(caught.value).startswith("alerts.more.oncall")


def test_every_kind_can_be_named(tmp_path: Path) -> None:
    mail = {"kind": "smtp", "host": "h", "sender": "a@h.example", "recipients": ["b@h.example"]}
    kinds = ("webhook", "dingtalk", "feishu", "wecom", "slack")
    more = {
        **{f"my_{kind}": {"kind": kind} for kind in kinds},
        "my_mail": mail,
        "off": {"kind": "slack", "enabled": False},
    }
    environ = {f"SLO_CHANNEL_MY_{kind.upper()}_URL": f"http://h/{kind}" for kind in kinds}
    alerts = config(tmp_path, more).alerts
    sinks = build_sinks(alerts, state_dir=tmp_path, environ=environ, console=io.StringIO())
    assert [repr(sink).split()[0] for sink in sinks.values()][:5] == list(kinds)
    assert tuple(sinks) == build_routes(alerts).channels == (*(f"my_{kind}" for kind in kinds), "my_mail")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"oncall": {"kind": "pager"}}, "kind"),
        ({"oncall": {}}, "kind"),
        ({"slack": {"kind": "slack"}}, "'slack' is taken"),
        ({"fallback file": {"kind": "slack"}}, "pattern"),
        ({"oncall": {"kind": "slack", "keyword": "x"}}, "no such setting"),
    ],
    ids=["unknown kind", "no kind", "a name that is taken", "no name for a variable", "a key of another kind"],
)
def test_nonsense_is_refused_with_its_place(more: dict[str, Any], problem: str, tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(yaml.safe_dump({"alerts": {"more": more}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=problem) as caught:
        load(file, environ={})
    assert "alerts.more" in str(caught.value)


def test_a_variable_of_a_channel_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(yaml.safe_dump({"alerts": {"more": TWO}}), encoding="utf-8")
    load(file, environ={"SLO_CHANNEL_ONCALL_URL": "http://h/marker"})
    with pytest.raises(ConfigError, match="SLO_CHANNEL_ONCAL_URL") as caught:
        load(file, environ={"SLO_CHANNEL_ONCAL_URL": "http://h/marker"})
    assert "marker" not in str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A configuration file with two robots, both on at this name."""
    path = tmp_path / "slo.yaml"
    settings = config(tmp_path, TWO, ROUTES).model_dump(mode="json")
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


def test_alert_test_speaks_to_each(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Receiver(fine) as oncall,
        Receiver(lambda _: Answer({"errcode": 310000, "errmsg": "keywords not in content"})) as news,
    ):
        monkeypatch.setenv("SLO_CHANNEL_ONCALL_URL", oncall.url("/a?access_token=aaaaaa"))
        monkeypatch.setenv("SLO_CHANNEL_NEWS_URL", news.url("/b?access_token=bbbbbb"))
        assert run(cli, ["alert", "test", "--config", file]) == 1
        assert run(cli, ["alert", "test", "--sink", "oncall", "--config", file]) == 0
    said = capsys.readouterr().out
    assert "ok   oncall         firing" in said
    assert "FAIL news           firing" in said
    assert "or that of its entry in alerts.more" in said


def test_validate_says_which_secrets_are_missing_and_refuses_a_route_to_nowhere(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLO_CHANNEL_NEWS_URL", "http://127.0.0.1:9/b")
    assert run(cli, ["validate", "--config", file]) == 0
    said = capsys.readouterr().err
    assert (
        "warning: alerts.more.oncall: enabled, but neither SLO_CHANNEL_ONCALL_URL nor url_file gives its secret" in said
    )
    assert "alerts.more.news" not in said
    path = Path(file)
    path.write_text(
        path.read_text(encoding="utf-8").replace("page:\n    - oncall", "page:\n    - on_call"), encoding="utf-8"
    )
    assert run(cli, ["validate", "--config", file]) == 2
    assert "channel 'on_call' is not set up" in capsys.readouterr().err
