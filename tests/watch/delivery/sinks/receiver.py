"""
A real HTTP server on a free port that keeps what it was sent and answers as a provider's rules say.

    with Receiver(rules) as receiver:
        sink = SlackSink(Secret(receiver.url("/services/T"), "test"), wire=Wire())

`rules` are a function of the request; `at` is the provider's own clock, so that time windows can be tested.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from slo.watch.model.notification import Notification, Severity, Status


@dataclass(frozen=True)
class Request:
    """One POST as it arrived."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What the provider says. A dict body is sent as JSON."""

    body: Any = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # close the connection without a word
    delay_s: float = 0.0


Rules = Callable[[Request], Answer]


class Receiver(ThreadingHTTPServer):
    """The provider. `requests` are all that came, in order."""

    daemon_threads = True

    def __init__(self, rules: Rules, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rules = rules
        self.requests: list[Request] = []
        self.left = threading.Event()
        self._scheme = "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self._scheme = "https"

    def url(self, path: str) -> str:
        return f"{self._scheme}://localhost:{self.server_address[1]}{path}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast("Receiver", self.server)
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(parts.path, dict(parse_qsl(parts.query)), headers, body)
        server.requests.append(request)
        answer = server.rules(request)
        if answer.delay_s:
            server.left.wait(answer.delay_s)
        if answer.cut:
            self.close_connection = True
            return
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body, ensure_ascii=False)
        data = text.encode()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(data)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


class Throttle:
    """A provider's own count: more than `per_minute` in a running minute, and it refuses for `block_s`."""

    def __init__(self, per_minute: int, block_s: float) -> None:
        self.per_minute = per_minute
        self.block_s = block_s
        self.accepted: list[float] = []
        self.blocked_until_s = 0.0

    def refuses(self, now: float) -> bool:
        if now < self.blocked_until_s:
            return True
        if sum(1 for at in self.accepted if now - at < 60) >= self.per_minute:
            self.blocked_until_s = now + self.block_s
            return True
        self.accepted.append(now)
        return False

    def most_in_a_minute(self) -> int:
        return max(sum(1 for other in self.accepted if 0 <= other - at < 60) for at in self.accepted)


def note(
    event_id: str = "e-1", *, status: Status = "firing", severity: Severity = "critical",
    title: str = "gte-base-zh P95 412ms", text: str = "### 原因\n\n- **P95** 412ms\n- 见 [手册](https://runbook.example/p95)",
    group_key: str = "gte-base-zh/latency", starts_at_s: float = 1_700_000_000.0, ends_at_s: float | None = None,
) -> Notification:  # fmt: skip
    """A notification with everything in it."""
    return Notification(
        event_id=event_id,
        status=status,
        severity=severity,
        title_zh=title,
        title_en=f"{title} (en)",
        text_zh=text,
        text_en=text,
        labels={"alertname": "LatencyBudgetBurn", "slo": "gte-base-zh-p95"},
        starts_at_s=starts_at_s,
        ends_at_s=ends_at_s,
        group_key=group_key,
        runbook_url="https://runbook.example/p95",
        generator_url="http://127.0.0.1:9997/slo/",
    )
