"""One kept-alive connection of the load client, from the request's bytes to the answer's last byte."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from slo.bench.exchange import OK, Exchange, outcome_of
from slo.client import longest_answer
from slo.errors import BadAnswer, Refused, Unauthorized, Unreachable
from slo.http import is_ban

if TYPE_CHECKING:
    from slo.bench.wire import Pool

COME_BACK = (b"retry-after", b"retry-after-ms", b"x-should-retry")
COMPLAINT = 4096  # bytes of a failure that are looked at


class Connection(asyncio.Protocol):
    """One kept-alive connection; carries one exchange at a time."""

    def __init__(self, pool: Pool) -> None:
        self.exchange: Exchange | None = None
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._sized = False
        self._allowed = 0  # bytes that may still come

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, exchange: Exchange, request: bytes) -> None:
        """Write `request`; its answer belongs to `exchange`."""
        self.exchange = exchange
        self._parts, self._sized = [], False
        self._allowed = longest_answer(exchange.inputs)
        exchange.sent_s = self._pool.clock.monotonic()
        if self._transport is None or self._transport.is_closing():
            self._end(Unreachable.outcome, reusable=False)
            return
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._allowed -= len(data)
        if self._allowed < 0:  # an answer without end, or one that nobody has asked for
            self._end(BadAnswer.outcome, reusable=False)
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._end(BadAnswer.outcome, reusable=False)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        exchange = self.exchange
        if exchange is None:
            return
        key = name.lower()
        if key == b"cache-status":
            exchange.cached = b"; hit" in value or b";hit" in value
        elif key == b"server-timing":
            exchange.timing = value
        elif key in COME_BACK:
            exchange.headers[key] = value
        elif key in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        if self.exchange is not None and self._parser.get_status_code() >= 200:
            self._complete(reusable=self._parser.should_keep_alive() and self._pool.keepalive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self.exchange is not None and self._parts and not self._sized and exc is None:
            self._complete(reusable=False)  # a body without a length ends with its connection
        else:
            if self.exchange is not None:
                self.exchange.complaint = (str(exc) if exc else "closed before the answer was complete").encode()
            self._end(Unreachable.outcome, reusable=False)
        self._pool.gone(self)

    def abandon(self, outcome: str) -> None:
        """Close at once; an unfinished exchange ends with `outcome`."""
        self._end(outcome, reusable=False)
        self.close()

    def close(self) -> None:
        """Close at once, without farewell."""
        if self._transport is not None:
            self._transport.abort()

    def _complete(self, *, reusable: bool) -> None:
        exchange = self.exchange
        assert exchange is not None  # noqa: S101
        if not exchange.finished:
            exchange.status = self._parser.get_status_code()
            body = b"".join(self._parts)
            if outcome_of(exchange.status) == OK:
                exchange.answer = body
            else:
                exchange.complaint = self._pool.unsecret(body[:COMPLAINT])
        outcome = outcome_of(exchange.status) if exchange.status else OK
        if outcome == Refused.outcome and is_ban(exchange.status, b"".join(self._parts).decode("utf-8", "replace")):
            outcome = Unauthorized.outcome
        self._end(outcome, reusable=reusable)

    def _end(self, outcome: str, *, reusable: bool) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        self._pool.finish(exchange, outcome)
        self._pool.released(self, reusable=reusable)
