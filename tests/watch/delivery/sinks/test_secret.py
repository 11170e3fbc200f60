"""A random marker used as token, key and password never appears in what channels say, log, store or raise."""

import io
import logging
import pickle
import secrets as random_source
from collections.abc import Callable
from pathlib import Path

import pytest

from slo.config import Config
from slo.errors import ConfigError
from slo.watch.delivery.channels import build_sinks, open_outbox
from slo.watch.delivery.sinks.secret import Secret, find_secret, mask
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note

MARKER = f"mark{random_source.token_hex(8)}er"


def echoing(status: int, shape: Callable[[str], object]) -> Callable[[Request], Answer]:
    """A provider that repeats everything it was sent in its error."""

    def rules(request: Request) -> Answer:
        heard = f"{request.path} {request.query} {request.headers} {request.body.decode()}"
        return Answer(shape(heard), status=status)

    return rules


@pytest.mark.parametrize(
    ("status", "shape"),
    [
        pytest.param(200, lambda heard: {"errcode": 310000, "code": 19021, "errmsg": heard, "msg": heard}, id="code"),
        pytest.param(200, lambda heard: heard, id="text"),
        pytest.param(403, lambda heard: heard, id="403"),
        pytest.param(503, lambda heard: heard, id="503"),
    ],
)
def test_the_marker_appears_nowhere(
    status: int, shape: Callable[[str], object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    console = io.StringIO()
    with Receiver(echoing(status, shape)) as receiver:
        environ = {
            "SLO_WEBHOOK_URL": receiver.url(f"/hooks/{MARKER}"),
            "SLO_WEBHOOK_SECRET": MARKER,
            "SLO_DINGTALK_URL": receiver.url(f"/robot/send?access_token={MARKER}"),
            "SLO_DINGTALK_SECRET": MARKER,
            "SLO_FEISHU_URL": receiver.url(f"/bot/v2/hook/{MARKER}"),
            "SLO_FEISHU_SECRET": MARKER,
            "SLO_WECOM_URL": receiver.url(f"/send?key={MARKER}"),
            "SLO_SLACK_URL": receiver.url(f"/services/T/B/{MARKER}"),
        }
        config = Config().replaced(
            **{f"alerts.{name}.enabled": True for name in ("webhook", "dingtalk", "feishu", "wecom", "slack")},
            state_dir=tmp_path,
        )
        with open_outbox(config, environ=environ, console=console) as outbox:
            outbox.put(note())
            attempts = outbox.pump()
            said = [repr(attempts), *map(str, attempts), *outbox.undelivered(), repr(outbox.totals())]
        sinks = build_sinks(config.alerts, state_dir=tmp_path, environ=environ, console=console)
        said += [repr(sinks), repr(config), caplog.text, console.getvalue()]
        assert MARKER in repr(receiver.requests)
    assert len(attempts) == 7
    assert all(MARKER not in text for text in said)
    for file in tmp_path.iterdir():
        assert MARKER.encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "address",
    [f"ftp://h/{MARKER}", f"http://h/{MARKER} x", MARKER, f"http://[{MARKER}/"],
    ids=["wrong scheme", "space", "no address", "broken host"],
)
def test_an_address_that_is_none_is_not_quoted(address: str, tmp_path: Path) -> None:
    config = Config().replaced(**{"alerts.slack.enabled": True})
    with pytest.raises(ConfigError) as caught:
        build_sinks(config.alerts, state_dir=tmp_path, environ={"SLO_SLACK_URL": address}, console=io.StringIO())
    assert MARKER not in repr(caught.value)
    assert MARKER not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_prints_as_its_origin_and_cannot_be_stored() -> None:
    secret = Secret(MARKER, "environment variable SLO_X")
    assert repr(secret) == str(secret) == f"{secret:>1}" == "<secret from environment variable SLO_X>"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_masking_takes_the_telling_parts_of_an_address() -> None:
    secret = Secret(f"https://h.example/robot/send?access_token={MARKER}", "test")
    assert mask(f"bad token {MARKER} at /robot/send?access_token={MARKER}", secret) == "bad token •••• at ••••"


def test_a_secret_comes_from_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\n")
    file.chmod(0o600)
    both = find_secret("SLO_X", file, {"SLO_X": "from-environment"})
    assert both is not None
    assert both.reveal() == "from-environment"
    alone = find_secret("SLO_X", file, {})
    assert alone is not None
    assert alone.reveal() == "from-file"
    assert find_secret("SLO_X", None, {}) is None


@pytest.mark.parametrize(
    ("mode", "content", "problem"),
    [(0o644, b"x", "readable by others"), (0o600, b"", "is empty"), (0o600, b"\xff\xfe", "is not text")],
)
def test_a_file_that_is_no_secret_is_refused(mode: int, content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=problem):
        find_secret("SLO_X", file, {})


def test_an_enabled_channel_without_its_secret_is_an_error_that_names_the_variable(tmp_path: Path) -> None:
    config = Config().replaced(**{"alerts.feishu.enabled": True})
    with pytest.raises(ConfigError, match="SLO_FEISHU_URL"):
        build_sinks(config.alerts, state_dir=tmp_path, environ={}, console=io.StringIO())
