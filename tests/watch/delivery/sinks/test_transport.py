"""The network as it is: refused, silent, slow, untrusted."""

import socket
from pathlib import Path

import pytest

from slo.errors import ConfigError
from slo.watch.delivery.sinks.outcome import Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.transport import HttpReply, Wire, checked_address
from tests.watch.delivery.sinks.certificates import make_certificate
from tests.watch.delivery.sinks.receiver import Answer, Receiver


def test_nobody_there_is_worth_a_retry_and_leaves_no_doubt() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = Wire(timeout_s=2).post(f"http://127.0.0.1:{unused.getsockname()[1]}/x", b"", {})
    assert isinstance(outcome, Retry)
    assert not outcome.doubtful
    assert "refused" in outcome.reason


def test_silence_after_the_request_leaves_doubt() -> None:
    with Receiver(lambda _: Answer("late", delay_s=5)) as receiver:
        outcome = Wire(timeout_s=0.3).post(receiver.url("/x"), b"{}", {})
    assert isinstance(outcome, Retry)
    assert outcome.doubtful


def test_a_certificate_of_nobody_is_refused_and_one_of_the_named_authority_is_not(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with Receiver(lambda _: Answer("ok"), tls=certificate.server_context()) as receiver:
        refused = Wire(timeout_s=3).post(receiver.url("/x"), b"{}", {})
        trusted = Wire(timeout_s=3, ca_file=certificate.file).post(receiver.url("/x"), b"{}", {})
        assert len(receiver.requests) == 1
    assert isinstance(refused, Retry)
    assert refused.diagnosis is not None
    assert "never skipped" in refused.diagnosis.en
    assert trusted == HttpReply(200, "ok", None)


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "elsewhere.example")
    with Receiver(lambda _: Answer("ok"), tls=certificate.server_context()) as receiver:
        outcome = Wire(timeout_s=3, ca_file=certificate.file).post(receiver.url("/x"), b"{}", {})
    assert isinstance(outcome, Retry)


@pytest.mark.parametrize(
    "address", ["ftp://h/secret-path", "not an address", "http:///secret", "http://h/a b", "http://h/\n", "http://h/é"]
)
def test_an_address_that_is_none_is_refused_without_being_quoted(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_address(Secret(address, "SLO_X_URL"), "slack")
    assert address not in str(caught.value)


def test_a_huge_answer_is_read_in_part() -> None:
    with Receiver(lambda _: Answer("x" * 10_000_000)) as receiver:
        reply = Wire(timeout_s=3).post(receiver.url("/x"), b"{}", {})
    assert isinstance(reply, HttpReply)
    assert len(reply.text) == 64 * 1024
