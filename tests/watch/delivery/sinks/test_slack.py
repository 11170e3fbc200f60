"""Slack against a server that keeps Slack's rules: body `ok`, sizes, errors as text, 429 with Retry-After."""

import pytest

from slo.watch.delivery.sinks.outcome import Delivered, Failed, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.slack import SlackSink
from slo.watch.delivery.sinks.transport import Wire
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note

NOW = 1_700_000_000.0
PATH = "/services/T00000000/B00000000/XXXXXXXXXXXX"


def slack(request: Request) -> Answer:
    """The provider's side."""
    if request.path != PATH:
        return Answer("no_service", status=404)
    for attachment in request.json["attachments"]:
        if len(attachment["blocks"]) > 50 or any(len(b["text"]["text"]) > 3000 for b in attachment["blocks"]):
            return Answer("invalid_blocks", status=400)
    return Answer("ok")


def sink_for(receiver: Receiver, path: str = PATH) -> SlackSink:
    return SlackSink(Secret(receiver.url(path), "test"), wire=Wire(timeout_s=5))


def test_a_message_is_accepted_in_slacks_dialect() -> None:
    text = "### 原因\n\n**P95** < 150 & [手册](https://runbook.example/?a=1&b=2)"
    with Receiver(slack) as receiver:
        assert sink_for(receiver).send(note(text=text), NOW) == Delivered()
        attachment = receiver.requests[0].json["attachments"][0]
    assert attachment["color"] == "#d32f2f"
    body = "\n".join(block["text"]["text"] for block in attachment["blocks"][1:])
    assert body == "*原因*\n\n*P95* &lt; 150 &amp; <https://runbook.example/?a=1&amp;b=2|手册>"


@pytest.mark.parametrize("text", ["行\n" * 9000, "x" * 20_000], ids=["lines", "one line"])
def test_a_long_text_is_split_into_sections(text: str) -> None:
    with Receiver(slack) as receiver:
        assert sink_for(receiver).send(note(text=text), NOW) == Delivered()


@pytest.mark.parametrize("error", ["invalid_token", "channel_is_archived", "invalid_payload"])
def test_an_error_of_the_set_up_is_explained_and_not_retried(error: str) -> None:
    with Receiver(lambda _: Answer(error, status=403)) as receiver:
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert error in outcome.reason


def test_a_limit_is_obeyed_as_slack_names_it() -> None:
    with Receiver(lambda _: Answer("rate_limited", status=429, headers={"Retry-After": "30"})) as receiver:
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Retry)
    assert outcome.throttled
    assert outcome.after_s == 30


@pytest.mark.parametrize(
    "answer", [Answer("<html>"), Answer(""), Answer("no", status=503)], ids=["page", "empty", "503"]
)
def test_anything_but_ok_is_not_delivery(answer: Answer) -> None:
    with Receiver(lambda _: answer) as receiver:
        assert isinstance(sink_for(receiver).send(note(), NOW), Retry)
