"""
Mail: text and HTML, over verified TLS only, with the resolve in the thread of its alert.

`starttls` (port 587) or `tls` (465); a server that offers no STARTTLS is a mistake to be mended, never a reason to
send in the clear. 4xx is tried again, 5xx needs a person, and a recipient refused among others is reported.
All mails of one alert refer to one root id, and a repetition has the Message-ID of what it repeats, so that mail
servers drop it themselves. A mail takes some ten round trips, so the bound for all of it is three times the time-out.
"""

from __future__ import annotations

import contextlib
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formataddr, formatdate, parseaddr
from typing import Any, Literal

from slo.errors import ConfigError
from slo.watch.delivery.sinks.outcome import Delivered, Diagnosis, Failed, Limit, Outcome, Retry
from slo.watch.delivery.sinks.secret import Secret, mask
from slo.watch.delivery.sinks.transport import NO_ANSWER, NOT_TRUSTED, Sockets, within
from slo.watch.delivery.sinks.wording import Language, plain, text_of, title_of, to_html
from slo.watch.model.notification import Notification

NO_STARTTLS = Diagnosis(
    "邮件服务器不支持 STARTTLS：改用 security: tls（465 端口）；不会明文发送",
    "the mail server offers no STARTTLS: use security: tls (port 465); nothing is sent in the clear",
)
BAD_LOGIN = Diagnosis(
    "登录被拒绝：检查用户名与 SLO_SMTP_PASSWORD（多数邮箱要求授权码而非登录密码）",
    "login refused: check the user and SLO_SMTP_PASSWORD (many providers want an app password)",
)
REFUSED = Diagnosis(
    "邮件服务器拒收：检查发件人、收件人与发信权限", "the mail server refuses it: check sender, recipients and rights"
)

EXCHANGE = 3.0  # of the time-out: how long a whole mail may take


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """Where and as whom to hand in mail."""

    host: str
    port: int
    security: Literal["starttls", "tls"]
    tls: ssl.SSLContext
    user: str = ""
    password: Secret | None = None
    timeout_s: float = 10.0


class _Smtp(smtplib.SMTP):
    """A connection that can be cut. `_get_socket` is smtplib's own way to have it made elsewhere."""

    def __init__(self, connections: Sockets, server: MailServer, **how: Any) -> None:
        self._connections = connections
        super().__init__(server.host, server.port, timeout=server.timeout_s, **how)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return self._connections.connect((host, port), timeout)


class _SmtpTls(smtplib.SMTP_SSL, _Smtp):
    """The same, with TLS from the first byte: `SMTP_SSL` wraps what `_Smtp` connects."""

    def __init__(self, connections: Sockets, server: MailServer) -> None:
        self._connections = connections
        smtplib.SMTP_SSL.__init__(self, server.host, server.port, timeout=server.timeout_s, context=server.tls)


class SmtpSink:
    """Mails to `recipients`, all in one message."""

    limit: Limit | None = None
    repeat_every_s: float | None = None
    digest_bytes = 100_000

    def __init__(
        self, server: MailServer, *, sender: str, recipients: Sequence[str], language: Language = "both"
    ) -> None:
        for address in (sender, *recipients):
            if any(ord(c) < 32 for c in address) or "@" not in parseaddr(address)[1]:
                raise ConfigError(f"{address!r} is not a mail address", where="alerts.smtp")
        self._server = server
        self._sender = sender
        self._recipients = list(recipients)
        self._language = language

    def __repr__(self) -> str:
        return f"smtp {self._server.host}:{self._server.port} for {len(self._recipients)} recipients"

    def send(self, notification: Notification, now: float) -> Outcome:
        message, handed_in, taken = self.message(notification, now), False, list[Outcome]()

        def exchange(connections: Sockets) -> None:
            nonlocal handed_in
            connection = self._connected(connections)
            try:
                if self._server.password is not None:
                    connection.login(self._server.user, self._server.password.reveal())
                handed_in = True
                refused = connection.send_message(message)
                few = f"{len(refused)} of {len(self._recipients)} recipients refused" if refused else ""
                taken.append(Delivered(detail=few))  # whatever becomes of the farewell
                with contextlib.suppress(smtplib.SMTPException, OSError):
                    connection.quit()
            finally:
                connection.close()

        bound_s = EXCHANGE * self._server.timeout_s
        try:
            within(bound_s, exchange)
        except (smtplib.SMTPException, OSError) as error:
            return self._failure(error, handed_in=handed_in)
        if taken:
            return taken[0]
        reason = f"{self._server.host}: no end within {bound_s:g} s"
        return Retry(reason=reason, doubtful=handed_in, diagnosis=NO_ANSWER)

    def message(self, notification: Notification, now: float) -> EmailMessage:
        """The mail. Titles are one line without control characters, so no header can be smuggled in."""
        domain = parseaddr(self._sender)[1].rpartition("@")[2]
        root = f"<thread.{_digest(f'{notification.group_key}|{notification.starts_at_s}')}@{domain}>"
        message = EmailMessage()
        message["Subject"] = title_of(notification, self._language)[:200]
        message["From"] = formataddr(parseaddr(self._sender))
        message["To"] = ", ".join(formataddr(parseaddr(address)) for address in self._recipients)
        message["Date"] = formatdate(now)
        message["Message-ID"] = f"<{_digest(notification.event_id)}@{domain}>"
        message["In-Reply-To"] = root
        message["References"] = root
        message["Auto-Submitted"] = "auto-generated"
        message["X-SLO-Event-Id"] = _digest(notification.event_id)
        if notification.severity == "critical" and notification.status == "firing":
            message["X-Priority"] = "1"
        text = text_of(notification, self._language)
        message.set_content(plain(text))
        message.add_alternative(f'<!doctype html><meta charset="utf-8">{to_html(text)}', subtype="html")
        return message

    def _connected(self, connections: Sockets) -> smtplib.SMTP:
        server = self._server
        if server.security == "tls":
            return _SmtpTls(connections, server)
        connection = _Smtp(connections, server)
        try:
            connection.starttls(context=server.tls)
        except BaseException:
            connection.close()
            raise
        return connection

    def _failure(self, error: smtplib.SMTPException | OSError, *, handed_in: bool) -> Outcome:
        match error:
            case ssl.SSLCertVerificationError():
                reason = f"{self._server.host}: {error.verify_message}"
                return Retry(reason=reason, after_s=300.0, diagnosis=NOT_TRUSTED)
            case smtplib.SMTPNotSupportedError():
                return Failed(reason=self._clean(error), diagnosis=NO_STARTTLS)
            case smtplib.SMTPRecipientsRefused():
                code = min(code for code, _ in error.recipients.values())
                reason, diagnosis = f"all recipients refused ({code})", REFUSED
            case smtplib.SMTPAuthenticationError():
                code, reason, diagnosis = error.smtp_code, self._clean(error), BAD_LOGIN
            case smtplib.SMTPResponseException():
                code, reason, diagnosis = error.smtp_code, self._clean(error), REFUSED
            case _:
                return Retry(reason=self._clean(error), doubtful=handed_in, diagnosis=NO_ANSWER)
        # Below 400 the connection broke in the middle of an answer.
        return Failed(reason=reason, diagnosis=diagnosis) if code >= 500 else Retry(reason=reason, diagnosis=diagnosis)

    def _clean(self, error: Exception) -> str:
        if isinstance(error, smtplib.SMTPResponseException):
            said = error.smtp_error
            text = f"{error.smtp_code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
        else:
            text = str(error) or type(error).__name__
        return mask(f"{self._server.host}: {' '.join(text.split())[:200]}", self._server.password)


def _digest(text: str) -> str:
    """A name made of letters and digits alone, for headers."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]
