"""DingTalk against a server that keeps DingTalk's rules: token, signature within an hour, keyword, size, rate."""

import base64
import hashlib
import hmac

import pytest

from slo.watch.delivery.sinks.dingtalk import DingTalkSink, sign
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, Throttle, note

NOW = 1_700_000_000.0
TOKEN, SECRET = "TOKENabcdef", "SECtest"


class DingTalk:
    """The provider's side."""

    def __init__(self, *, secret: str = SECRET, keyword: str = "", now: float = NOW) -> None:
        self.secret, self.keyword, self.now = secret, keyword, now
        self.throttle = Throttle(20, 600)

    def __call__(self, request: Request) -> Answer:
        if request.query.get("access_token") != TOKEN:
            return Answer({"errcode": 300005, "errmsg": "token is not exist"})
        if self.throttle.refuses(self.now):
            return Answer({"errcode": 130101, "errmsg": "send too fast, exceed 20 times per minute"})
        if len(request.body) > 20_000:
            return Answer({"errcode": 460101, "errmsg": "message too long"})
        if self.secret:
            stamp = request.query.get("timestamp", "0")
            if abs(int(stamp) / 1000 - self.now) > 3600:
                return Answer({"errcode": 310000, "errmsg": "description:invalid timestamp"})
            digest = hmac.new(self.secret.encode(), f"{stamp}\n{self.secret}".encode(), hashlib.sha256).digest()
            if request.query.get("sign") != base64.b64encode(digest).decode():
                return Answer({"errcode": 310000, "errmsg": "description:sign not match"})
        markdown = request.json["markdown"]
        if self.keyword not in markdown["title"] + markdown["text"]:
            return Answer({"errcode": 310000, "errmsg": "description:keywords not in content"})
        return Answer({"errcode": 0, "errmsg": "ok"})


def sink_for(receiver: Receiver, *, token: str = TOKEN, secret: str | None = SECRET, keyword: str = "") -> DingTalkSink:
    address = Secret(receiver.url(f"/robot/send?access_token={token}"), "test")
    return DingTalkSink(
        address, wire=Wire(timeout_s=5), secret=Secret(secret, "test") if secret else None, keyword=keyword,
        mobiles=["13800000000"],
    )  # fmt: skip


def test_the_signature_matches_the_published_vector() -> None:
    assert sign(Secret("SECtest", "test"), "1700000000000") == "aZLLrriXgn05YbwaGR7knYsLeJADjr9NwLaNNKpxh4g="


def test_a_signed_message_is_accepted_and_mentions_appear_in_the_text() -> None:
    with Receiver(DingTalk(keyword="告警")) as receiver:
        assert sink_for(receiver, keyword="告警").send(note(), NOW) == Delivered()
        body = receiver.requests[0].json
    assert body["at"] == {"atMobiles": ["13800000000"], "atUserIds": [], "isAtAll": False}
    assert "@13800000000" in body["markdown"]["text"]
    assert body["markdown"]["text"].startswith("### gte-base-zh P95 412ms\n\n")


def test_nobody_is_mentioned_by_a_resolve_or_a_ticket() -> None:
    with Receiver(DingTalk()) as receiver:
        sink = sink_for(receiver)
        sink.send(note(status="resolved"), NOW)
        sink.send(note(severity="ticket"), NOW)
        assert [r.json["at"]["atMobiles"] for r in receiver.requests] == [[], []]


def test_every_attempt_is_signed_anew_and_the_address_does_not_grow() -> None:
    provider = DingTalk()
    with Receiver(provider) as receiver:
        sink = sink_for(receiver)
        assert sink.send(note(), NOW) == Delivered()
        provider.now += 7200  # the first signature would be too old by now
        assert sink.send(note(), NOW + 7200) == Delivered()
        first, second = receiver.requests
    assert first.query["sign"] != second.query["sign"]
    assert list(second.query) == ["access_token", "timestamp", "sign"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"keyword": "必须有"}, "关键词", id="keyword"),
        pytest.param({"secret": "SECother"}, "加签", id="signature"),
        pytest.param({"now": NOW + 7200}, "时钟", id="clock"),
    ],
)
def test_security_settings_are_told_apart_and_never_retried(change: dict[str, object], expected: str) -> None:
    with Receiver(DingTalk(**change)) as receiver:  # type: ignore[arg-type]
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert expected in outcome.diagnosis.zh


def test_a_wrong_token_is_a_mistake_in_the_address() -> None:
    with Receiver(DingTalk()) as receiver:
        outcome = sink_for(receiver, token="wrongtoken").send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert "access_token" in outcome.diagnosis.en


def test_the_twenty_first_message_of_a_minute_is_throttled_for_ten_minutes() -> None:
    with Receiver(DingTalk()) as receiver:
        sink = sink_for(receiver)
        outcomes = [sink.send(note(), NOW) for _ in range(21)]
    assert outcomes[:20] == [Delivered()] * 20
    last = outcomes[20]
    assert isinstance(last, Retry)
    assert last.throttled
    assert last.after_s == 600


@pytest.mark.parametrize("text", ["长" * 30_000, '"\\\n' * 20_000], ids=["chinese", "escapes"])
def test_a_long_text_is_cut_to_what_dingtalk_takes(text: str) -> None:
    with Receiver(DingTalk()) as receiver:
        assert sink_for(receiver).send(note(text=text), NOW) == Delivered()
        size = len(receiver.requests[0].body)
        sent = receiver.requests[0].json["markdown"]["text"]
    assert 19_000 < size <= 20_000
    assert "[…]" in sent
    assert "@13800000000" in sent


@pytest.mark.parametrize(
    ("answer", "throttled"),
    [
        pytest.param(Answer({"errcode": -1, "errmsg": "系统繁忙"}), False, id="busy"),
        pytest.param(Answer({"errcode": 410100, "errmsg": "速度过快"}), True, id="410100"),
        pytest.param(Answer({"punish": "deny", "wait": 5, "source": "x5"}), True, id="gate"),
        pytest.param(Answer({"errmsg": "ok"}), False, id="no code"),
        pytest.param(Answer("<html>login</html>"), False, id="a page"),
        pytest.param(Answer({"errcode": "0"}), False, id="a code that is text"),
        pytest.param(Answer({"errcode": False}), False, id="a code that is false"),
        pytest.param(Answer({"errcode": 0}, status=502), False, id="ok under an error status"),
        pytest.param(Answer({"errcode": 987654, "errmsg": "new"}), False, id="unknown code"),
        pytest.param(Answer("[]"), False, id="a list"),
        pytest.param(Answer("", cut=True), False, id="no answer"),
    ],
)
def test_http_200_is_not_delivery(answer: Answer, throttled: bool) -> None:
    with Receiver(lambda _: answer) as receiver:
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Retry)
    assert outcome.throttled is throttled
