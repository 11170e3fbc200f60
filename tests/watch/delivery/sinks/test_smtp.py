"""Mail against a real SMTP server with STARTTLS and login."""

from pathlib import Path

import pytest

from slo.errors import ConfigError
from slo.watch.delivery.sinks.outcome import Delivered, Failed, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret
from slo.watch.delivery.sinks.smtp import MailServer as Target
from slo.watch.delivery.sinks.smtp import SmtpSink
from slo.watch.delivery.sinks.transport import tls_context
from tests.watch.delivery.sinks.certificates import Certificate, make_certificate
from tests.watch.delivery.sinks.mail_server import MailRules, MailServer
from tests.watch.delivery.sinks.receiver import note

NOW = 1_700_000_000.0
PASSWORD = MailRules().password


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def sink_for(
    server: MailServer, authority: Path | None, *, password: str = PASSWORD, security: str = "starttls"
) -> SmtpSink:
    target = Target(
        host="localhost", port=server.port, security="tls" if security == "tls" else "starttls",
        tls=tls_context(authority), user="watcher", password=Secret(password, "test"), timeout_s=5,
    )  # fmt: skip
    return SmtpSink(target, sender="SLO <slo@example.com>", recipients=["a@example.com", "b@example.com"])


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_mail_arrives_over_verified_tls_with_text_and_html(certificate: Certificate, security: str) -> None:
    rules = MailRules(tls=certificate.server_context(), implicit_tls=security == "tls")
    with MailServer(rules) as server:
        assert sink_for(server, certificate.file, security=security).send(note(), NOW) == Delivered()
        mail = server.mails[0]
        assert "AUTH" not in server.in_the_clear
        assert "MAIL" not in server.in_the_clear
    assert mail["Subject"] == "gte-base-zh P95 412ms"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert "手册: https://runbook.example/p95" in text.get_content()
    assert html is not None
    assert '<a href="https://runbook.example/p95">手册</a>' in html.get_content()


def test_a_resolve_is_in_the_thread_of_its_alert_and_a_repetition_has_the_same_id(certificate: Certificate) -> None:
    with MailServer(MailRules(tls=certificate.server_context())) as server:
        sink = sink_for(server, certificate.file)
        for message in (note("e-1"), note("e-1"), note("e-2", status="resolved", ends_at_s=NOW)):
            sink.send(message, NOW)
        first, again, resolved = server.mails
    assert first["References"] == resolved["References"] == resolved["In-Reply-To"]
    assert first["Message-ID"] == again["Message-ID"] != resolved["Message-ID"]


def test_a_title_cannot_smuggle_a_header_in(certificate: Certificate) -> None:
    with MailServer(MailRules(tls=certificate.server_context())) as server:
        evil = note(title="P95\r\nBcc: thief@example.com\r\n\r\nbody", event_id="x\r\nBcc: thief@example.com")
        assert sink_for(server, certificate.file).send(evil, NOW) == Delivered()
        mail = server.mails[0]
    assert mail["Bcc"] is None
    assert mail["Subject"] == "P95 Bcc: thief@example.com body"


def test_a_recipient_with_a_line_break_is_refused_at_set_up(certificate: Certificate) -> None:
    target = Target(host="localhost", port=1, security="tls", tls=tls_context(certificate.file))
    with pytest.raises(ConfigError, match="not a mail address"):
        SmtpSink(target, sender="slo@example.com", recipients=["a@example.com\r\nBcc: b@example.com"])


def outcome_of(rules: MailRules, authority: Path | None, password: str = PASSWORD) -> Outcome:
    with MailServer(rules) as server:
        outcome = sink_for(server, authority, password=password).send(note(), NOW)
        assert "MAIL" not in server.in_the_clear
        return outcome


def test_without_starttls_nothing_is_sent(certificate: Certificate) -> None:
    outcome = outcome_of(MailRules(), certificate.file)
    assert isinstance(outcome, Failed)
    assert "STARTTLS" in outcome.diagnosis.en


def test_an_untrusted_certificate_is_never_accepted(certificate: Certificate) -> None:
    outcome = outcome_of(MailRules(tls=certificate.server_context()), None)
    assert isinstance(outcome, Retry)
    assert outcome.diagnosis is not None
    assert "TLS" in outcome.diagnosis.en


def test_a_refused_login_is_diagnosed_without_the_password(certificate: Certificate) -> None:
    outcome = outcome_of(MailRules(tls=certificate.server_context()), certificate.file, password="wrong-password")
    assert isinstance(outcome, Failed)
    assert "SLO_SMTP_PASSWORD" in outcome.diagnosis.zh
    assert "wrong-password" not in repr(outcome)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        pytest.param({"MAIL": "450 try later"}, Retry, id="sender greylisted"),
        pytest.param({"MAIL": "550 no"}, Failed, id="sender refused"),
        pytest.param({"DATA": "451 try later"}, Retry, id="data later"),
        pytest.param({"DATA": "554 spam"}, Failed, id="spam"),
        pytest.param({"a@example.com": "550 no", "b@example.com": "450 later"}, Retry, id="both, one for now"),
        pytest.param({"RCPT": "550 no"}, Failed, id="both for good"),
    ],
)
def test_4xx_is_tried_again_and_5xx_is_not(certificate: Certificate, answers: dict[str, str], kind: type) -> None:
    outcome = outcome_of(MailRules(tls=certificate.server_context(), answers=answers), certificate.file)
    assert isinstance(outcome, kind)


def test_one_refused_recipient_among_two_is_reported(certificate: Certificate) -> None:
    rules = MailRules(tls=certificate.server_context(), answers={"b@example.com": "550 unknown"})
    assert outcome_of(rules, certificate.file) == Delivered(detail="1 of 2 recipients refused")


def test_a_connection_lost_after_the_data_leaves_doubt(certificate: Certificate) -> None:
    outcome = outcome_of(MailRules(tls=certificate.server_context(), drop_after_data=True), certificate.file)
    assert isinstance(outcome, Retry)
    assert outcome.doubtful
