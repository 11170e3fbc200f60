"""Feishu against a server that keeps Feishu's rules."""

import base64
import hashlib
import hmac

import pytest

from slo.watch.delivery.sinks.feishu import FeishuSink, sign
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.model.notification import Severity
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, Throttle, note

NOW = 1_700_000_000.0
SECRET = "testsecret"


class Feishu:
    """The provider's side."""

    def __init__(self, *, secret: str = SECRET, keyword: str = "", now: float = NOW) -> None:
        self.secret, self.keyword, self.now = secret, keyword, now
        self.throttle = Throttle(100, 60)

    def __call__(self, request: Request) -> Answer:
        if not request.path.endswith("/hook/the-bot-uuid"):
            return Answer({"code": 19001, "msg": "param invalid: incoming webhook access token invalid"})
        if self.throttle.refuses(self.now):
            return Answer({"code": 11232, "msg": "frequency limited"})
        if len(request.body) > 20 * 1024:
            return Answer({"code": 9499, "msg": "Bad Request"}, status=400)
        body = request.json
        if self.secret:
            key = f"{body.get('timestamp')}\n{self.secret}"
            expected = base64.b64encode(hmac.new(key.encode(), b"", hashlib.sha256).digest()).decode()
            late = abs(int(body.get("timestamp", 0)) - self.now) > 3600
            if late or body.get("sign") != expected:
                text = "sign match fail or timestamp is not within one hour from current time"
                return Answer({"code": 19021, "msg": text})
        if self.keyword not in request.body.decode():
            return Answer({"code": 19024, "msg": "Key Words Not Found"})
        return Answer({"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"})


def sink_for(receiver: Receiver, *, path: str = "/open-apis/bot/v2/hook/the-bot-uuid", keyword: str = "") -> FeishuSink:
    return FeishuSink(
        Secret(receiver.url(path), "test"), wire=Wire(timeout_s=5), secret=Secret(SECRET, "test"), keyword=keyword,
        user_ids=["ou_1"], mention_all=True,
    )  # fmt: skip


def test_the_signature_matches_the_published_vector() -> None:
    assert sign(Secret("testsecret", "test"), "1700000000") == "AOc8oJ7//5OlQlfWC3nRL0R+IkuzcD1FKcAyibRK9Q8="


def test_a_signed_card_is_accepted_with_mentions_and_without_headings() -> None:
    with Receiver(Feishu(keyword="告警")) as receiver:
        assert sink_for(receiver, keyword="告警").send(note(), NOW) == Delivered()
        card = receiver.requests[0].json["card"]
    content = card["elements"][0]["text"]["content"]
    assert "<at id=ou_1></at><at id=all></at>" in content
    assert "**原因**" in content
    assert "#" not in content
    assert card["header"]["title"]["content"] == "gte-base-zh P95 412ms"


@pytest.mark.parametrize(
    ("severity", "colour"), [("critical", "red"), ("page", "orange"), ("ticket", "blue"), ("info", "grey")]
)
def test_the_colour_is_the_severity(severity: Severity, colour: str) -> None:
    with Receiver(Feishu()) as receiver:
        sink = sink_for(receiver)
        sink.send(note(severity=severity), NOW)
        sink.send(note(severity=severity, status="resolved"), NOW)
        assert [r.json["card"]["header"]["template"] for r in receiver.requests] == [colour, "green"]


@pytest.mark.parametrize("change", [{"secret": "other"}, {"now": NOW + 4000}], ids=["secret", "clock"])
def test_19021_names_both_the_clock_and_the_secret(change: dict[str, object]) -> None:
    with Receiver(Feishu(**change)) as receiver:  # type: ignore[arg-type]
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert "时钟" in outcome.diagnosis.zh
    assert "SLO_FEISHU_SECRET" in outcome.diagnosis.zh


@pytest.mark.parametrize(
    ("provider", "path", "code"),
    [
        pytest.param(Feishu(), "/open-apis/bot/v2/hook/gone", "19001", id="bot removed"),
        pytest.param(Feishu(keyword="必须有"), "/open-apis/bot/v2/hook/the-bot-uuid", "19024", id="keyword"),
    ],
)
def test_a_mistake_in_the_set_up_is_not_retried(provider: Feishu, path: str, code: str) -> None:
    with Receiver(provider) as receiver:
        outcome = sink_for(receiver, path=path).send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert code in outcome.reason


def test_a_frequency_limit_is_a_throttle() -> None:
    with Receiver(lambda _: Answer({"code": 11232, "msg": "frequency limited"})) as receiver:
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Retry)
    assert outcome.throttled


def test_a_long_text_is_cut_to_20_kb() -> None:
    with Receiver(Feishu()) as receiver:
        assert sink_for(receiver).send(note(text="长文\n" * 9000), NOW) == Delivered()
        assert 19_000 < len(receiver.requests[0].body) <= 20 * 1024
