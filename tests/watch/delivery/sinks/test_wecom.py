"""WeCom against a server that keeps WeCom's rules: the key, 4096 bytes of UTF-8, 20 a minute."""

import pytest

from slo.watch.delivery.sinks.outcome import Delivered, Failed, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.delivery.sinks.wecom import WeComSink
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, Throttle, note

NOW = 1_700_000_000.0
KEY = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"


class WeCom:
    """The provider's side."""

    def __init__(self) -> None:
        self.now = NOW
        self.throttle = Throttle(20, 60)

    def __call__(self, request: Request) -> Answer:
        if request.query.get("key") != KEY:
            return Answer({"errcode": 93000, "errmsg": "invalid webhook url, hint: [1700000000]"})
        if self.throttle.refuses(self.now):
            return Answer({"errcode": 45009, "errmsg": "api freq out of limit"})
        body = request.json
        limit = {"markdown": 4096, "text": 2048}[body["msgtype"]]
        if len(body[body["msgtype"]]["content"].encode()) > limit:
            return Answer({"errcode": 40058, "errmsg": f"{body['msgtype']}.content exceed max length {limit}"})
        return Answer({"errcode": 0, "errmsg": "ok"})


def sink_for(receiver: Receiver, *, key: str = KEY, mention_all: bool = False) -> WeComSink:
    address = Secret(receiver.url(f"/cgi-bin/webhook/send?key={key}"), "test")
    return WeComSink(address, wire=Wire(timeout_s=5), user_ids=["zhang"], mention_all=mention_all)


def test_a_message_is_accepted_coloured_and_mentions_users() -> None:
    with Receiver(WeCom()) as receiver:
        assert sink_for(receiver).send(note(), NOW) == Delivered()
        content = receiver.requests[0].json["markdown"]["content"]
    assert content.startswith('### <font color="warning">gte-base-zh P95 412ms</font>')
    assert content.endswith("<@zhang>")


@pytest.mark.parametrize("text", ["长" * 3000, "a" * 9000, "é中🔴" * 1000], ids=["chinese", "ascii", "mixed"])
def test_a_long_text_is_cut_by_bytes_between_characters(text: str) -> None:
    with Receiver(WeCom()) as receiver:
        assert sink_for(receiver).send(note(text=text), NOW) == Delivered()
        content = receiver.requests[0].json["markdown"]["content"]
    assert 4080 <= len(content.encode()) <= 4096
    assert "�" not in content
    assert content.endswith("<@zhang>")


def test_calling_everybody_takes_a_second_message_and_counts_twice() -> None:
    with Receiver(WeCom()) as receiver:
        sink = sink_for(receiver, mention_all=True)
        assert sink.send(note(), NOW) == Delivered()
        assert [r.json["msgtype"] for r in receiver.requests] == ["markdown", "text"]
        assert receiver.requests[1].json["text"]["mentioned_list"] == ["@all"]
    assert sink.limit is not None
    assert sink.limit.cost == 2


def test_a_failed_mention_does_not_repeat_the_message() -> None:
    def rules(request: Request) -> Answer:
        return Answer({"errcode": 0 if request.json["msgtype"] == "markdown" else 45009, "errmsg": "x"})

    with Receiver(rules) as receiver:
        outcome = sink_for(receiver, mention_all=True).send(note(), NOW)
    assert isinstance(outcome, Delivered)
    assert "45009" in outcome.detail


def test_a_wrong_key_is_diagnosed() -> None:
    with Receiver(WeCom()) as receiver:
        outcome = sink_for(receiver, key="wrong-key").send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert "key" in outcome.diagnosis.zh


def test_the_twenty_first_message_of_a_minute_is_throttled() -> None:
    with Receiver(WeCom()) as receiver:
        sink = sink_for(receiver)
        outcomes = [sink.send(note(severity="ticket"), NOW) for _ in range(21)]
    assert outcomes[:20] == [Delivered()] * 20
    assert isinstance(outcomes[20], Retry)
    assert outcomes[20].throttled
