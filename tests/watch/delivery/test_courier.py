"""The courier delivers between the rounds of a watch, and finishes what it began."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

from slo.clock import SystemClock
from slo.config import Config
from slo.watch.delivery.channels import open_outbox
from slo.watch.delivery.courier import METRICS_FILE, Courier
from slo.watch.delivery.delivery import Attempt
from tests.real_servers import until
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note


def config_in(folder: Path) -> Config:
    return Config().replaced(
        **{
            "state_dir": folder, "alerts.webhook.enabled": True, "alerts.console.enabled": False,
            "alerts.file.enabled": False, "alerts.retry.first": 0.2,
        }
    )  # fmt: skip


def courier_for(
    folder: Path, receiver: Receiver, heard: list[Attempt], complaints: Callable[[str], None] = lambda _: None
) -> Courier:
    environ = {"SLO_WEBHOOK_URL": receiver.url("/hook")}
    return Courier(
        lambda: open_outbox(config_in(folder), environ=environ, console=io.StringIO()),
        folder, report=heard.append, complain=complaints,
    )  # fmt: skip


def put_in(folder: Path, receiver: Receiver, event_id: str) -> None:
    environ = {"SLO_WEBHOOK_URL": receiver.url("/hook")}
    with open_outbox(config_in(folder), environ=environ, console=io.StringIO(), clock=SystemClock()) as outbox:
        outbox.put(note(event_id, group_key=event_id))


def test_a_poke_sends_at_once_and_a_failure_is_retried_without_another(tmp_path: Path) -> None:
    answers = iter([Answer("busy", status=503), Answer("", status=204), Answer("", status=204)])
    heard: list[Attempt] = []
    with Receiver(lambda _: next(answers)) as receiver, courier_for(tmp_path, receiver, heard) as courier:
        put_in(tmp_path, receiver, "e-1")
        courier.poke()
        until("the second try arrives", lambda: len(receiver.requests) == 2, timeout_s=10)
    assert [attempt.delivered for attempt in heard] == [False, True]
    assert 'slo_alert_notifications_total{channel="webhook",result="delivered"} 1' in (
        tmp_path / METRICS_FILE
    ).read_text(encoding="utf-8")


def test_what_is_due_at_the_end_still_goes_out_and_what_is_under_way_is_marked(tmp_path: Path) -> None:
    arrived, heard = threading.Event(), list[Attempt]()

    def slow(_: Request) -> Answer:
        arrived.set()
        return Answer("", status=204, delay_s=0.5)

    with Receiver(slow) as receiver:
        with courier_for(tmp_path, receiver, heard) as courier:
            put_in(tmp_path, receiver, "e-1")
            courier.poke()
            assert arrived.wait(10)
            put_in(tmp_path, receiver, "e-2")
        assert [request.headers["x-slo-event-id"] for request in receiver.requests] == ["e-1", "e-2"]
        with open_outbox(config_in(tmp_path), environ={"SLO_WEBHOOK_URL": receiver.url("/")}) as outbox:
            assert outbox.undelivered() == []


def test_an_outbox_that_cannot_be_opened_is_complained_of_and_tried_again(tmp_path: Path) -> None:
    complaints: list[str] = []
    (tmp_path / "outbox.db").mkdir()
    with (
        Receiver(lambda _: Answer("", status=204)) as receiver,
        courier_for(tmp_path, receiver, [], complaints.append) as courier,
    ):
        until("the complaint", lambda: complaints, timeout_s=10)
        (tmp_path / "outbox.db").rmdir()
        put_in(tmp_path, receiver, "e-1")
        courier.poke()
        until("delivery", lambda: receiver.requests, timeout_s=10)
    assert "outbox.db" in complaints[0]
