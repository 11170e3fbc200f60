"""The generic webhook: Alertmanager's body, our signature, and the statuses."""

import hashlib
import hmac

import pytest

from slo.watch.delivery.sinks.outcome import Delivered, Failed, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.delivery.sinks.webhook import WebhookSink
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note

NOW = 1_700_000_000.0
KEY = "webhook-key"


def verifying(request: Request) -> Answer:
    """A receiver that checks the signature and the age of what it gets, as ours should be checked."""
    stamp = request.headers["x-slo-timestamp"]
    expected = hmac.new(KEY.encode(), stamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(request.headers.get("x-slo-signature", ""), f"sha256={expected}"):
        return Answer("bad signature", status=403)
    return Answer("", status=204) if abs(int(stamp) - NOW) <= 300 else Answer("too old", status=403)


def sink_for(receiver: Receiver, key: str = KEY) -> WebhookSink:
    return WebhookSink(
        Secret(receiver.url("/hook"), "test"), wire=Wire(timeout_s=5), secret=Secret(key, "test"),
        external_url="http://slo/",
    )  # fmt: skip


def test_the_body_is_alertmanagers_and_the_signature_holds() -> None:
    with Receiver(verifying) as receiver:
        assert sink_for(receiver).send(note(), NOW) == Delivered()
        request = receiver.requests[0]
    body = request.json
    assert request.headers["x-slo-event-id"] == "e-1"
    assert set(body) == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    assert body["version"] == "4"
    alert = body["alerts"][0]
    assert alert["status"] == "firing"
    assert alert["labels"] == {"alertname": "LatencyBudgetBurn", "severity": "critical", "slo": "gte-base-zh-p95"}
    assert alert["annotations"]["summary"] == "gte-base-zh P95 412ms"
    assert alert["startsAt"] == "2023-11-14T22:13:20.000Z"
    assert alert["endsAt"] == "0001-01-01T00:00:00Z"


def test_a_resolve_carries_its_end() -> None:
    with Receiver(verifying) as receiver:
        sink_for(receiver).send(note(status="resolved", ends_at_s=1_700_000_060.0), NOW)
        alert = receiver.requests[0].json["alerts"][0]
    assert (alert["status"], alert["endsAt"]) == ("resolved", "2023-11-14T22:14:20.000Z")


def test_a_wrong_key_is_refused_and_diagnosed() -> None:
    with Receiver(verifying) as receiver:
        outcome = sink_for(receiver, key="other").send(note(), NOW)
    assert isinstance(outcome, Failed)
    assert "403" in outcome.reason


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with Receiver(lambda _: Answer("later", status=status, headers={"Retry-After": "7"})) as receiver:
        outcome = sink_for(receiver).send(note(), NOW)
    assert isinstance(outcome, Retry)
    assert outcome.after_s == 7


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
def test_what_cannot_pass_is_not(status: int) -> None:
    with Receiver(lambda _: Answer("no", status=status)) as receiver:
        assert isinstance(sink_for(receiver).send(note(), NOW), Failed)


def test_a_redirect_is_not_followed() -> None:
    with Receiver(lambda _: Answer("", status=307, headers={"Location": "/elsewhere"})) as receiver:
        outcome = sink_for(receiver).send(note(), NOW)
        assert [r.path for r in receiver.requests] == ["/hook"]
    assert isinstance(outcome, Failed)
