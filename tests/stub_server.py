"""
A small real HTTP server that speaks OpenAI embeddings and misbehaves on demand.

    with StubServer(script=lambda n, texts: Reply(status=503) if n < 3 else Reply()) as server:
        EmbeddingsClient(server.endpoint, "stub").embed("你好")

`script` sees the number of the request (from 0) and its texts, and says how to answer. Vectors depend on the text
alone. Every request is kept in `requests`. Nothing here waits longer than `Reply.delay_s` says, and leaving the
block interrupts even that.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fault = Literal["reset", "truncate", "stall", "trickle"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How to answer one request. `body` replaces the vectors: JSON data, or bytes as they are.

    Faults: `reset` cuts the connection before any answer, `truncate` after half of the body, `stall` sends half of
    it and then nothing for `delay_s`, `trickle` sends the headers a byte at a time, `delay_s` apart.
    """

    status: int = 200
    delay_s: float = 0.0
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Script = Callable[[int, list[str]], Reply]


def vector_of(text: str, dimension: int) -> list[float]:
    """A vector that depends on the text alone."""
    source = random.Random(text)
    return [source.uniform(-1, 1) for _ in range(dimension)]


def embeddings(texts: list[str], dimension: int, model: str = "stub") -> dict[str, Any]:
    """The answer that OpenAI documents."""
    rows = [
        {"object": "embedding", "index": index, "embedding": vector_of(text, dimension)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(map(len, texts))
    return {
        "object": "list",
        "model": model,
        "data": rows,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


class StubServer(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1 from `with` to the end of the block."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        script: Script = lambda _n, _texts: Reply(),
        *,
        prefix: str = "",
        api_key: str | None = None,
        dimension: int = 8,
        pages: dict[str, Any] | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script = script
        self.prefix = prefix
        self.api_key = api_key
        self.dimension = dimension
        self.pages = pages or {}
        self.requests: list[Seen] = []
        self.connections = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def endpoint(self) -> str:
        """Base address, with the prefix."""
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def texts(self) -> list[str]:
        """Every text that was sent, in order."""
        return [text for seen in self.requests for text in _texts(seen.body)]

    def next_reply(self, seen: Seen) -> Reply:
        """The script's word on the next request."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(seen)
        return self.script(number, _texts(seen.body))

    def __enter__(self) -> StubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and cut every connection, as a killed server does. A second call does nothing."""
        if self.closing.is_set():
            return
        self.closing.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            open_sockets = list(self._sockets)
        for connection in open_sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._sockets.add(request)
            self.connections += 1
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._sockets.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; anything else is a fault of this stub and must be seen."""
        import sys  # noqa: PLC0415

        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StubServer

    def do_GET(self) -> None:
        if self.path not in self.server.pages:
            self._send(Reply(status=404, body={"detail": "Not Found"}))
        elif self._key_is_right():
            page = self.server.pages[self.path]
            self._send(page if isinstance(page, Reply) else Reply(body=page))

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != f"{self.server.prefix.removesuffix('/v1')}/v1/embeddings":
            self._send(Reply(status=404, body={"detail": "Not Found"}))
            return
        if not self._key_is_right():
            return
        seen = Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(raw))
        reply = self.server.next_reply(seen)
        if reply.delay_s and reply.fault is None:
            self.server.closing.wait(reply.delay_s)
        self._send(reply, seen)

    def _key_is_right(self) -> bool:
        if self.server.api_key and self.headers.get("Authorization") != f"Bearer {self.server.api_key}":
            self._send(Reply(status=401, body={"detail": "Could not validate credentials"}))
            return False
        return True

    def _send(self, reply: Reply, seen: Seen | None = None) -> None:
        if reply.fault == "reset":
            self._reset()
            return
        body = reply.body
        if body is None and seen is not None and reply.status == 200:
            body = embeddings(_texts(seen.body), self.server.dimension, seen.body.get("model", "stub"))
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        head = [f"HTTP/1.1 {reply.status} Stub", f"Content-Length: {len(content)}", "Content-Type: application/json"]
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        head_bytes = ("\r\n".join(head) + "\r\n\r\n").encode()
        if reply.fault == "trickle":
            for byte in head_bytes:
                self.wfile.write(bytes([byte]))
                if self.server.closing.wait(reply.delay_s):
                    break
        elif reply.fault in ("truncate", "stall"):
            self.wfile.write(head_bytes + content[: len(content) // 2])
            if reply.fault == "stall":
                self.server.closing.wait(reply.delay_s)
            self.close_connection = True
        else:
            self.wfile.write(head_bytes + content)  # in one write: two would wait for a delayed ACK

    def _reset(self) -> None:
        """Close with RST instead of FIN."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _texts(body: dict[str, Any]) -> list[str]:
    given = body.get("input", [])
    return [given] if isinstance(given, str) else list(given)
