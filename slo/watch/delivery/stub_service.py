"""A tiny embeddings endpoint on this machine that can be made slow: what a drill breaks instead of the real service."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast


class StubService(ThreadingHTTPServer):
    """Answers `POST /v1/embeddings` after `delay_s`, on a free port of the loopback interface. Use `with`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.delay_s = 0.0
        self.left = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def slow_down(self, delay_s: float) -> None:
        """Every answer takes `delay_s` from now on."""
        self.delay_s = delay_s

    def heal(self) -> None:
        """Answer at once again."""
        self.delay_s = 0.0

    def __enter__(self) -> StubService:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body leave in two writes: 40 ms of delayed ACK otherwise

    def do_POST(self) -> None:
        service = cast("StubService", self.server)
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
        service.left.wait(service.delay_s)
        rows = [{"index": i, "object": "embedding", "embedding": _vector(text)} for i, text in enumerate(texts)]
        body = json.dumps({"object": "list", "model": request.get("model"), "data": rows}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the drill reports."""


def _vector(text: str) -> list[float]:
    """A unit vector of the text's own: probes take one vector for two texts as a wrong answer."""
    values = [byte - 127.5 for byte in hashlib.sha256(text.encode()).digest()]
    length = math.hypot(*values)
    return [value / length for value in values]
