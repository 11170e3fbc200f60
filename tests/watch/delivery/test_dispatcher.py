"""The dispatcher delivers between the rounds of a watch, finishes what it began, and outlives whatever goes wrong."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from slo.clock import Clock, ManualClock, SystemClock
from slo.config import Config
from slo.errors import ConfigError
from slo.watch.delivery.channels import open_outbox
from slo.watch.delivery.dispatcher import METRICS_FILE, Dispatcher
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import Attempt
from tests.real_servers import until
from tests.watch.delivery.sinks.receiver import Answer, Receiver, Request, note


def config_in(folder: Path) -> Config:
    return Config().replaced(
        **{
            "state_dir": folder, "alerts.webhook.enabled": True, "alerts.console.enabled": False,
            "alerts.file.enabled": False, "alerts.retry.first": 0.2,
        }
    )  # fmt: skip


def dispatcher_for(
    folder: Path, receiver: Receiver, heard: list[Attempt], complaints: Callable[[str], None] = lambda _: None,
    *, report: Callable[[Attempt], None] | None = None, clock: Clock | None = None,
) -> Dispatcher:  # fmt: skip
    environ = {"SLO_WEBHOOK_URL": receiver.url("/hook")}
    return Dispatcher(
        lambda: open_outbox(config_in(folder), environ=environ, console=io.StringIO(), clock=clock),
        folder, report=report or heard.append, complain=complaints, clock=clock,
    )  # fmt: skip


def put_in(folder: Path, receiver: Receiver, event_id: str) -> None:
    environ = {"SLO_WEBHOOK_URL": receiver.url("/hook")}
    with open_outbox(config_in(folder), environ=environ, console=io.StringIO(), clock=SystemClock()) as outbox:
        outbox.put(note(event_id, group_key=event_id))


def test_a_poke_sends_at_once_and_a_failure_is_retried_without_another(tmp_path: Path) -> None:
    answers = iter([Answer("busy", status=503), Answer("", status=204), Answer("", status=204)])
    heard: list[Attempt] = []
    with Receiver(lambda _: next(answers)) as receiver, dispatcher_for(tmp_path, receiver, heard) as dispatcher:
        put_in(tmp_path, receiver, "e-1")
        dispatcher.wake()
        until("the second try arrives", lambda: len(receiver.requests) == 2, timeout_s=60)
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
        with dispatcher_for(tmp_path, receiver, heard) as dispatcher:
            put_in(tmp_path, receiver, "e-1")
            dispatcher.wake()
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
        dispatcher_for(tmp_path, receiver, [], complaints.append) as dispatcher,
    ):
        until("the complaint", lambda: complaints, timeout_s=60)
        (tmp_path / "outbox.db").rmdir()
        put_in(tmp_path, receiver, "e-1")
        dispatcher.wake()
        until("delivery", lambda: receiver.requests, timeout_s=60)
    assert "outbox.db" in complaints[0]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def has(receiver: Receiver, requests: int) -> bool:
    return len(receiver.requests) == requests


def idles(dispatcher: Dispatcher, clock: ManualClock) -> bool:
    """Is it not at work, now that more time has gone by?"""
    clock.advance(200)
    return not dispatcher.at_work()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (RuntimeError("can't start new thread"), "RuntimeError"),
        (ConfigError("no such channel"), "no such channel"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["no file to be had", "no thread to be had", "a setting", "no memory to be had"],
)
def test_the_next_message_is_sent_whatever_went_wrong_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception, words: str
) -> None:
    def fails(_: Outbox) -> list[Attempt]:
        raise trouble

    complaints: list[str] = []
    with (
        Receiver(lambda _: Answer("", status=204)) as receiver,
        dispatcher_for(tmp_path, receiver, [], complaints.append) as dispatcher,
    ):
        with monkeypatch.context() as broken:
            broken.setattr(Outbox, "pump", fails)
            dispatcher.wake()
            until("the complaint", lambda: complaints, timeout_s=60)
        put_in(tmp_path, receiver, "e-1")
        dispatcher.wake()
        until("delivery", lambda: receiver.requests, timeout_s=60)
    assert complaints == [f"outbox: {words}; trying again"]


def test_a_courier_that_can_tell_nobody_of_its_work_goes_on(tmp_path: Path) -> None:
    with (
        Receiver(lambda _: Answer("", status=204)) as receiver,
        dispatcher_for(tmp_path, receiver, [], full, report=full) as dispatcher,
    ):
        for number in (1, 2):
            put_in(tmp_path, receiver, f"e-{number}")
            dispatcher.wake()
            until("delivery", partial(has, receiver, number), timeout_s=60)


def test_a_courier_is_at_work_while_it_looks_into_the_outbox_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    with (
        Receiver(lambda _: Answer("", status=204)) as receiver,
        dispatcher_for(tmp_path, receiver, [], clock=clock) as dispatcher,
    ):
        assert dispatcher.at_work()
        with monkeypatch.context() as broken:
            broken.setattr(Outbox, "pump", full)
            dispatcher.wake()
            until("it is missed", partial(idles, dispatcher, clock), timeout_s=60)
        dispatcher.wake()
        until("it works again", dispatcher.at_work, timeout_s=60)


def test_a_courier_that_waits_for_another_sender_all_the_time_is_not_at_work(tmp_path: Path) -> None:
    clock = ManualClock()
    with (
        Receiver(lambda _: Answer("", status=204)) as receiver,
        dispatcher_for(tmp_path, receiver, [], clock=clock) as dispatcher,
    ):
        until("its first look", (tmp_path / METRICS_FILE).exists, timeout_s=60)
        with OutboxStore(tmp_path / "outbox.db").sole_sender() as mine:
            assert mine
            dispatcher.wake()
            until("it is missed", partial(idles, dispatcher, clock), timeout_s=60)
        dispatcher.wake()
        until("it works again", dispatcher.at_work, timeout_s=60)
