"""A channel that is slow, drips or hangs silences no other: real sockets, and a deadline for the whole exchange."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slo.clock import ManualClock
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import ChannelRoutes
from slo.watch.delivery.sinks.outcome import Delivered, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.smtp import MailServer, SmtpSink
from slo.watch.delivery.sinks.transport import HttpReply, Wire, tls_context
from slo.watch.delivery.sinks.webhook import WebhookSink
from slo.watch.drill import rehearse
from slo.watch.model.notification import Notification
from tests.watch.delivery.sinks.receiver import note
from tests.watch.fake_sink import FakeSink

PATIENCE_S = 60.0  # far beyond every bound here, and far below what a drip would take


@contextmanager
def dripping(first: bytes, drip: bytes) -> Iterator[int]:
    """A listener that says `first`, then `drip` ten times a second, to all who come, for ever; its port."""
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(first)
                while not over.wait(0.1):
                    connection.sendall(drip)
            except OSError:
                pass

    def serve(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


DRIPS = [
    pytest.param(b"", b"x", id="a status line that never ends"),
    pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", id="headers without end"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"o", id="a body byte by byte"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", id="one more continue"),
]


@pytest.mark.parametrize(("first", "drip"), DRIPS)
def test_the_time_out_bounds_the_whole_exchange(first: bytes, drip: bytes) -> None:
    with dripping(first, drip) as port:
        started_s = time.monotonic()
        outcome = Wire(timeout_s=0.5).post(f"http://127.0.0.1:{port}/x", b"{}", {})
        assert time.monotonic() - started_s < PATIENCE_S / 4
    assert isinstance(outcome, Retry)
    assert outcome.doubtful
    assert "within 0.5 s" in outcome.reason


def test_a_handshake_that_drips_is_bounded_as_well() -> None:
    record = b"\x16\x03\x03\x40\x00"  # a TLS record of 16 KiB, of which a byte comes now and then
    with dripping(record, b"\x02") as port:
        outcome = Wire(timeout_s=0.5).post(f"https://127.0.0.1:{port}/x", b"{}", {})
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_server_that_drips_is_bounded(security: str) -> None:
    with dripping(b"220-", b"x") as port:
        server = MailServer(
            host="127.0.0.1", port=port, security="tls" if security == "tls" else "starttls", tls=tls_context(),
            timeout_s=0.3,
        )  # fmt: skip
        outcome = SmtpSink(server, sender="a@example.com", recipients=["b@example.com"]).send(note(), 0.0)
    assert isinstance(outcome, Retry)
    assert not outcome.doubtful


def test_a_test_of_all_channels_is_not_held_up_by_one_that_drips() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n") as port:
        slow = WebhookSink(Secret(f"http://127.0.0.1:{port}/x", "test"), wire=Wire(timeout_s=0.5))
        told = list(rehearse({"slow": slow, "good": FakeSink()}, "m", 0.0))
    assert [(r.channel, r.step, r.delivered) for r in told] == [
        ("good", "firing", True), ("good", "resolved", True), ("slow", "firing", False),
    ]  # fmt: skip


class Hung(FakeSink):
    """A console whose pipe nobody reads: `send` does not come back until `left` is set."""

    def __init__(self) -> None:
        super().__init__(self._hang)
        self.left, self.reached = threading.Event(), threading.Event()

    def _hang(self, _: Notification) -> Outcome:
        self.reached.set()
        self.left.wait(PATIENCE_S)
        return Delivered()


@pytest.fixture
def hung() -> Iterator[Hung]:
    sink = Hung()
    yield sink
    sink.left.set()


def outbox_of(folder: Path, sinks: dict[str, FakeSink], *, longest_send_s: float, fallback: str = "") -> Outbox:
    routes = ChannelRoutes(
        channels=tuple(name for name in sinks if name != fallback), fallback=(fallback,) if fallback else ()
    )
    return Outbox(
        OutboxStore(folder / "outbox.db"), sinks, routes, clock=ManualClock(), longest_send_s=longest_send_s
    )  # fmt: skip


def test_what_comes_in_while_one_channel_is_slow_reaches_the_others_at_once(tmp_path: Path, hung: Hung) -> None:
    good = FakeSink()
    outbox = outbox_of(tmp_path, {"hung": hung, "good": good}, longest_send_s=PATIENCE_S)
    outbox.put(note("first"))
    pump = threading.Thread(target=lambda: outbox_of_thread(tmp_path, hung, good), daemon=True)
    pump.start()
    assert hung.reached.wait(PATIENCE_S)
    outbox.put(note("second", group_key="other"))
    end_s = time.monotonic() + PATIENCE_S / 2
    while good.ids != ["first", "second"] and time.monotonic() < end_s:
        time.sleep(0.02)
    assert good.ids == ["first", "second"]
    assert not hung.left.is_set()
    hung.left.set()
    pump.join()


def outbox_of_thread(folder: Path, hung: Hung, good: FakeSink) -> None:
    """SQLite's connections stay in their thread."""
    outbox_of(folder, {"hung": hung, "good": good}, longest_send_s=PATIENCE_S).pump()


def test_a_channel_that_hangs_is_left_alone_and_the_fallback_told_until_it_comes_back(
    tmp_path: Path, hung: Hung
) -> None:
    good, file = FakeSink(), FakeSink()
    outbox = outbox_of(tmp_path, {"hung": hung, "good": good, "file": file}, longest_send_s=0.2, fallback="file")
    outbox.put(note("first", severity="ticket"))
    (attempt,) = [attempt for attempt in outbox.pump() if not attempt.delivered]
    assert "the channel hangs" in str(attempt)
    assert outbox.undelivered()
    outbox.put(note("second", severity="ticket", group_key="other"))
    outbox.pump()
    assert good.ids == ["first", "second"]
    assert "second" in file.ids
    assert hung.ids == ["first"], "one thread hangs, not one per message"
    hung.left.set()
    until(lambda: bool(outbox.pump()) or not outbox.undelivered())
    assert hung.ids[0] == "first"
    assert [line for line in outbox.undelivered() if "first" in line] == []


def test_without_the_disk_a_hung_channel_takes_no_longer_than_its_bound(tmp_path: Path, hung: Hung) -> None:
    good = FakeSink()
    outbox = outbox_of(tmp_path, {"hung": hung, "good": good}, longest_send_s=0.2)
    outcomes = {attempt.sink: attempt.delivered for attempt in outbox.send_now(note("e"))}
    assert outcomes == {"good": True, "hung": False}


def test_a_reply_is_still_a_reply() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"") as port:
        reply = Wire(timeout_s=PATIENCE_S).post(f"http://127.0.0.1:{port}/x", b"{}", {})
    assert reply == HttpReply(200, "ok", None)


def until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)
