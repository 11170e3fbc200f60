"""The push to Alertmanager, against the real one: it receives, groups, resolves, and forgets what is not repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slo.report.prometheus import alertmanager_file
from slo.watch.delivery.sinks.alertmanager_push import AlertmanagerSink
from slo.watch.delivery.sinks.outcome import Delivered, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import Wire
from slo.watch.delivery.sinks.webhook import fingerprint, labels_of
from tests.real_servers import alertmanager, free_port, get_json, until
from tests.watch.delivery.sinks.receiver import Answer, Receiver, note


@dataclass(frozen=True)
class Running:
    """A real Alertmanager and where it sends its webhooks."""

    address: str
    webhooks: Receiver

    def told(self, status: str) -> list[dict[str, Any]]:
        """Alerts told with `status`, in order."""
        return [
            alert for request in self.webhooks.requests for alert in request.json["alerts"] if alert["status"] == status
        ]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Receiver(lambda _: Answer("")) as webhooks:
        config = alertmanager_file(urgent_url=webhooks.url("/urgent"), ticket_url=webhooks.url("/tickets"))
        quick = config.replace("group_wait: 30s", "group_wait: 1s").replace("group_wait: 10s", "group_wait: 1s")
        quick = quick.replace("group_interval: 5m", "group_interval: 1s")
        with alertmanager(tmp_path_factory.mktemp("am"), quick) as address:
            yield Running(address, webhooks)


def sink_for(*peers: str, repeat_every_s: float = 60) -> AlertmanagerSink:
    return AlertmanagerSink(
        [Secret(peer, "test") for peer in peers], wire=Wire(timeout_s=3), repeat_every_s=repeat_every_s
    )


def test_an_alert_is_received_told_and_resolved(real: Running) -> None:
    now = time.time()
    sink = sink_for(real.address)
    assert sink.send(note(starts_at_s=now - 5), now) == Delivered()
    stored = get_json(f"{real.address}/api/v2/alerts", filter='slo="gte-base-zh-p95"')
    assert [alert["fingerprint"] for alert in stored] == [fingerprint(labels_of(note()))]
    told = until("the webhook hears of it", lambda: real.told("firing"))
    assert told[0]["annotations"]["summary"] == "gte-base-zh P95 412ms"
    assert real.webhooks.requests[0].path == "/urgent"
    over = note(event_id="e-2", status="resolved", starts_at_s=now - 5, ends_at_s=time.time())
    assert sink.send(over, time.time()) == Delivered()
    until("the webhook hears of the end", lambda: real.told("resolved"))


def test_a_ticket_goes_to_the_other_receiver(real: Running) -> None:
    now = time.time()
    sink_for(real.address).send(note(severity="ticket", starts_at_s=now), now)
    until("the ticket arrives", lambda: any(r.path == "/tickets" for r in real.webhooks.requests))


def test_what_is_not_repeated_ends_after_four_repeats(real: Running) -> None:
    now = time.time()
    sink = sink_for(real.address, repeat_every_s=1)
    before = len(real.told("resolved"))
    sink.send(note(severity="page", starts_at_s=now), now)
    until("it ends by itself", lambda: len(real.told("resolved")) > before, timeout_s=30)


def test_one_living_peer_is_enough_and_the_dead_one_is_named(real: Running) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    now = time.time()
    outcome = sink_for(dead, real.address).send(note(starts_at_s=now), now)
    assert isinstance(outcome, Delivered)
    assert "127.0.0.1: connection refused" in outcome.detail


def test_without_a_living_peer_it_is_tried_again() -> None:
    now = time.time()
    assert isinstance(sink_for(f"http://127.0.0.1:{free_port()}").send(note(), now), Retry)


def test_a_resolve_never_lies_ahead_and_a_start_never_after_the_end() -> None:
    over = note(status="resolved", starts_at_s=2000.0, ends_at_s=3000.0)
    alert = sink_for("http://127.0.0.1:1").alert(over, 1000.0)
    assert alert["endsAt"] == alert["startsAt"] == "1970-01-01T00:16:40.000Z"


def test_every_peer_gets_every_alert(tmp_path: Path) -> None:
    with Receiver(lambda _: Answer("")) as one, Receiver(lambda _: Answer("")) as two:
        sink_for(one.url(""), two.url("/prefix/")).send(note(), 1000.0)
        assert [r.path for r in (*one.requests, *two.requests)] == ["/api/v2/alerts", "/prefix/api/v2/alerts"]
