"""
The leanest honest HTTP/1.1 client: kept-alive connections, a bounded pool, one request at a time on each.

A connection that a request has to wait for (or that has to be opened first) costs that request time from its due
moment: nothing is held back silently. Nothing is retried. Proxies are not used.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from slo import __version__
from slo.bench.connection import Connection
from slo.bench.exchange import Exchange
from slo.client import NO_EXTRAS, SOURCE_HEADER, Extras, embeddings_url
from slo.clock import Clock
from slo.errors import RequestTimeout, Unreachable
from slo.http import ApiKey

SECRET = 4  # characters from which on a header's value might be one
SWEEP_S = 0.02  # how often overdue requests are looked for; their `done` is the deadline itself


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go and how they look: `timeout_s` is the patience of a caller, from the due moment."""

    url: str
    model: str
    api_key: ApiKey | None = None
    timeout_s: float = 10.0
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: dict[str, Any] = field(default_factory=dict)  # beside model and input
    keepalive: bool = True

    def head(self) -> bytes:
        """The request up to and including `Content-Length: `."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own_key = any(name.lower() == "authorization" for name, _ in self.headers)
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {parts.netloc.rpartition('@')[2]}",
            f"User-Agent: xinference-slo/{__version__}",
            "Content-Type: application/json",
            "Accept: application/json",
            f"{SOURCE_HEADER}: bench",
            *(f"{name}: {value}" for name, value in self.headers),
            *([] if self.keepalive else ["Connection: close"]),
            *([f"Authorization: Bearer {self.api_key.value}"] if self.api_key and not own_key else []),
            "Content-Length: ",
        ]
        return "\r\n".join(lines).encode("utf-8")


def target(
    endpoint: str, model: str, *, api_key: ApiKey | None = None, timeout_s: float = 10.0, extras: Extras = NO_EXTRAS,
    keepalive: bool = True,
) -> Target:  # fmt: skip
    """The embeddings route of `endpoint`; `ConfigError` if that is no HTTP address."""
    return Target(
        url=embeddings_url(endpoint), model=model, api_key=api_key, timeout_s=timeout_s, headers=extras.headers,
        body=extras.body, keepalive=keepalive,
    )  # fmt: skip


class Pool:
    """At most `limit` connections to one target; requests wait first come, first served.

    Use inside a running event loop; `close()` ends what is under way as `unreachable`. `on_done` hears of every
    exchange exactly once.
    """

    def __init__(self, to: Target, *, limit: int, clock: Clock) -> None:
        self.on_done: Callable[[Exchange], None] = _ignored
        self.clock = clock
        self.connections = self.peak_connections = 0
        self.last_error = ""  # why the latest connection could not be opened
        self._target = to
        self._limit = limit
        self._head = to.head()
        self.keepalive = to.keepalive
        self._fresh_head = replace(to, headers=(*to.headers, ("Cache-Control", "no-cache"))).head()
        parts = urlsplit(to.url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._address: str | None = None  # resolved by the first connection
        self._ssl = ssl.create_default_context() if self._tls else None
        self._loop = asyncio.get_running_loop()
        self._free: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting: deque[Exchange] = deque()
        self._under_way: deque[Exchange] = deque()  # in order of due time, for the deadline
        self._openings: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = self._loop.call_later(SWEEP_S, self._sweep)

    def submit(self, exchange: Exchange) -> None:
        """Send `exchange` on a free connection, else open one if allowed, else let it wait."""
        self._under_way.append(exchange)
        if self._free:
            self._start(self._free.pop(), exchange)
            return
        self._waiting.append(exchange)
        if self.connections < self._limit:
            self._open()

    async def warm(self, connections: int) -> None:
        """Open up to `connections` connections ahead of the first request; failures show with that request."""
        for _ in range(min(connections, self._limit) - self.connections):
            self._open()
        await asyncio.gather(*self._openings)

    async def close(self) -> None:
        """Close all connections; unfinished exchanges end as `unreachable`."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for task in self._openings:
            task.cancel()
        while self._waiting:
            self.finish(self._waiting.popleft(), Unreachable.outcome)
        for connection in (*self._free, *self._busy):
            connection.abandon(Unreachable.outcome)
        await asyncio.sleep(0)

    def finish(self, exchange: Exchange, outcome: str, done_s: float | None = None) -> None:
        """Note how `exchange` ended, once."""
        if exchange.finished:
            return
        exchange.done_s = self.clock.monotonic() if done_s is None else done_s
        if exchange.sent_s != exchange.sent_s:  # never sent
            exchange.sent_s = exchange.done_s
        exchange.outcome = outcome
        self.on_done(exchange)

    def unsecret(self, said: bytes) -> bytes:
        """`said` without key and header values, should the server repeat them."""
        key = self._target.api_key
        for secret in (key.value if key else "", *(value for _, value in self._target.headers)):
            said = said.replace(secret.encode(), b"\xe2\x80\xa6") if len(secret) >= SECRET else said
        return said

    def released(self, connection: Connection, *, reusable: bool) -> None:
        """A connection has done its exchange: give it the next, or keep it for later."""
        self._busy.discard(connection)
        if not reusable:
            connection.close()
            return
        following = self._next_waiting()
        if following is None:
            self._free.append(connection)
        else:
            self._start(connection, following)

    def gone(self, connection: Connection) -> None:
        """A connection is closed, by either side."""
        self.connections -= 1
        self._busy.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self._waiting and self._sweeper is not None:
            self._open()

    def _start(self, connection: Connection, exchange: Exchange) -> None:
        self._busy.add(connection)
        body, head = exchange.body, self._fresh_head if exchange.fresh else self._head
        connection.send(exchange, b"%b%d\r\n\r\n%b" % (head, len(body), body))

    def _next_waiting(self) -> Exchange | None:
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.finished:
                return exchange
        return None

    def _open(self) -> None:
        self.connections += 1
        self.peak_connections = max(self.peak_connections, self.connections)
        task = self._loop.create_task(self._connect())
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)

    async def _connect(self) -> None:
        try:
            transport, connection = await self._loop.create_connection(
                lambda: Connection(self),
                self._address or self._host,
                self._port,
                ssl=self._ssl,
                server_hostname=self._host if self._tls else None,
            )
        except OSError as error:  # refused, unresolved, TLS not trusted
            self.last_error = str(error)
            self.connections -= 1
            failed = self._next_waiting()
            if failed is not None:
                failed.complaint = self.last_error.encode()
                self.finish(failed, Unreachable.outcome)
            if self._waiting and self._sweeper is not None:
                self._open()
            return
        if self._address is None:
            self._address = transport.get_extra_info("peername")[0]
        self.released(connection, reusable=True)

    def _sweep(self) -> None:
        now, patience = self.clock.monotonic(), self._target.timeout_s
        queue = self._under_way
        while queue and (queue[0].finished or now - queue[0].due_s > patience):
            exchange = queue.popleft()
            if not exchange.finished:
                self.finish(exchange, RequestTimeout.outcome, exchange.due_s + patience)
        for connection in [c for c in self._busy if c.exchange is None or c.exchange.finished]:
            connection.abandon(RequestTimeout.outcome)  # a late answer must not be taken for the next one's
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)


def _ignored(exchange: Exchange) -> None:
    raise AssertionError(f"nobody listens for exchange {exchange.sequence}: set Pool.on_done")
