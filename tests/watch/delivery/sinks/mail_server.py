"""A small real mail server: EHLO, STARTTLS, AUTH PLAIN, recipients that it may refuse, and the mails it took."""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
import ssl
import threading
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, cast


@dataclass(kw_only=True)
class MailRules:
    """How the server behaves. `answers` maps a command, or a recipient, to the reply that it gets instead."""

    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    password: str = "mail-password"
    answers: dict[str, str] = field(default_factory=dict)
    drop_after_data: bool = False


class MailServer(socketserver.ThreadingTCPServer):
    """The server. `mails` are those it accepted; `in_the_clear` the commands that came without TLS."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, rules: MailRules) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.rules = rules
        self.mails: list[EmailMessage] = []
        self.in_the_clear: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> MailServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def get_request(self) -> tuple[Any, Any]:
        connection, address = super().get_request()
        if self.rules.implicit_tls and self.rules.tls:
            connection = self.rules.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is part of the tests."""


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        plain = self.request
        try:
            self._talk()
        finally:
            if self.request is not plain:  # STARTTLS took the socket over: the base class closes only the first
                self.rfile.close()
                self.wfile.close()
                self.request.close()

    def _talk(self) -> None:
        server = cast("MailServer", self.server)
        rules, secure = server.rules, server.rules.implicit_tls
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            word = line.split(" ")[0].upper()
            if not secure:
                server.in_the_clear.append(word)
            address = line.partition("<")[2].partition(">")[0]
            if word in rules.answers or address in rules.answers:
                self._say(rules.answers.get(address) or rules.answers[word])
            elif word == "EHLO":
                offers = ["250-localhost", *(["250-STARTTLS"] if rules.tls and not secure else []), "250 AUTH PLAIN"]
                self._say("\r\n".join(offers))
            elif word == "STARTTLS" and rules.tls:
                self._say("220 go ahead")
                self.request = rules.tls.wrap_socket(self.request, server_side=True)
                self.rfile, self.wfile, secure = self.request.makefile("rb"), self.request.makefile("wb"), True
            elif word == "AUTH":
                given = base64.b64decode(line.split(" ")[2]).decode().split("\0")[2]
                self._say("235 welcome" if given == rules.password else f"535 no such password: {given}")
            elif word == "DATA":
                self._say("354 go on")
                data = b"".join(iter(self.rfile.readline, b".\r\n"))
                server.mails.append(email.message_from_bytes(data, policy=email.policy.default))
                if rules.drop_after_data:
                    return
                self._say("250 taken")
            elif word == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")
        self.wfile.flush()
