"""
HTTP/1.1 on one accepted connection: uvicorn's httptools protocol, put right where it differs from h11 or from the RFC.

httptools is here for speed. Without it Xinference serves through h11, and clients may expect what h11 does:

* An `Upgrade` that nobody here speaks is ignored, as RFC 9110 §7.8 wants it. Java's `HttpClient` offers `h2c` with
  every request; httptools ends the message at the head, and the body would be lost.
* Folded header lines are joined, blanks after a value are cut, trailers are no headers, an absolute URI without a
  path means `/`, and a client of HTTP/1.0 gets neither chunks nor `100 Continue`.
* A head needs its `Host`, may not exceed `MAX_HEAD` bytes (trailers likewise), and names no transfer coding but
  `chunked`.

What a client may hold is bounded, too: see `slo.serve.connections`.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from slo.serve.connections import Connections

MAX_HEAD = 64 * 1024  # bytes, about what h11 takes
FORBIDDEN = re.compile(rb"[\0\r\n]")  # in a value, once folded lines are joined


class BadHead(Exception):
    """The head of a request that is answered with `status` and nothing else."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ServerProtocol(HttpToolsProtocol):
    """One connection. `kept` is shared by all connections of a server; subclasses made by `protocol_class` have it."""

    kept: Connections

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = self._new_parser()
        self._served = self.app
        self._head_bytes = 0  # in names and values so far
        self._read_bytes = 0  # read in a row without an event worth a name: an endless header, trailer or extension
        self._advanced = False
        self._in_head = False
        self._ignoring_upgrade = False

    # What the transport tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.kept.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.kept.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.kept.sending(self)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            reason = error.__context__
            if isinstance(reason, BadHead):
                self._refuse(reason)
            else:
                self._refuse(BadHead("Invalid HTTP request received."))

    def pause_writing(self) -> None:
        super().pause_writing()
        self.kept.stalled(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.kept.flowing(self)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self.kept.stalled(self)  # a closing connection waits for its last byte, which nobody may ever read
        elif self.cycle is None or self.cycle.response_complete:
            self.kept.idle(self)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.kept.stalled(self)

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self.kept.stalled(self)

    # What the parser tells

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes, self._in_head, self._ignoring_upgrade = 0, True, False

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        if not self._in_head:
            return  # a trailer
        value = value.strip(b" \t")
        if FORBIDDEN.search(value):
            raise BadHead("Invalid HTTP request received.")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes, self._advanced = False, 0, True
        version = self.parser.get_http_version()
        _check(self.headers, version)
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade():
            self._ignoring_upgrade = True  # the head comes again, see `_feed`
            return
        if self.url[:1] not in (b"/", b"*"):
            parts = httptools.parse_url(self.url)
            if parts.path is None:
                self.url = b"/" + (b"?" + parts.query if parts.query else b"")
        if version == "1.0":
            self.expect_100_continue = False
        self.app = self._without_chunks if version == "1.0" else self._served
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        if not self._ignoring_upgrade:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._advanced = True
        if not self._ignoring_upgrade:
            super().on_message_complete()
            if self.cycle.response_complete:  # answered before it was read, such as one that is too large
                self.kept.idle(self)
            else:
                self.kept.busy(self)

    # How

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Folded lines need `lenient_headers`; `on_header` looks at the values instead.
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_headers=True)
        return parser

    def _feed(self, data: bytes) -> None:
        """Parse `data`. A head with an upgrade that we ignore is read again without it, and then what followed it."""
        self._advanced = False
        read = len(data)
        while True:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                if not self._ignoring_upgrade:
                    if self._should_upgrade():
                        self.handle_websocket_upgrade()
                    return
                head = self._head_without_upgrade()
                data = data[upgrade.args[0] :]
                self.parser = self._new_parser()
                self.parser.feed_data(head)
        self._read_bytes = 0 if self._advanced else self._read_bytes + read
        if self._read_bytes > MAX_HEAD:
            self._refuse(_too_long())

    def _head_without_upgrade(self) -> bytes:
        line = b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        rest = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"".join([line, *rest, b"\r\n"])

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > MAX_HEAD:
            raise _too_long()

    def _refuse(self, reason: BadHead) -> None:
        self.logger.warning(str(reason))
        text = str(reason).encode("ascii")
        self.transport.write(
            b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[reason.status], len(text), text)
        )
        self.transport.close()
        self.kept.stalled(self)

    async def _without_chunks(self, scope: Any, receive: Any, send: Any) -> None:
        """The app for a client of HTTP/1.0: an answer without a length ends with the connection."""
        cycle = self.cycle
        unsized = False

        async def plainly(message: Any) -> None:
            nonlocal unsized
            if message["type"] == "http.response.start":
                unsized = not any(name.lower() == b"content-length" for name, _ in message.get("headers", []))
                if unsized:
                    cycle.chunked_encoding = False  # decided: no chunks
            elif unsized and message.get("body") and scope["method"] != "HEAD":
                if cycle.flow.write_paused and not cycle.disconnected:
                    await cycle.flow.drain()
                if not cycle.disconnected:
                    self.transport.write(message["body"])
                message = {**message, "body": b""}
            await send(message)

        await self._served(scope, receive, plainly)


def _too_long() -> BadHead:
    return BadHead("Request Header Fields Too Large", 431)


def _check(headers: list[tuple[bytes, bytes]], version: str) -> None:
    """Raises `BadHead` for a head that RFC 9112 forbids and httptools lets through."""
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            raise BadHead("Unsupported transfer coding", 501)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise BadHead("Exactly one Host header is needed")


def protocol_class(base: type[Any] | None, kept: Connections, **attributes: Any) -> type[ServerProtocol]:
    """The class to be given to uvicorn; `base` is a mix-in of the host's, with `attributes` of its own."""
    bases = (ServerProtocol,) if base is None else (base, ServerProtocol)
    return type("HardenedServerProtocol", bases, {"kept": kept, **attributes})
