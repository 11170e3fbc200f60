"""
What all connections of the server may hold together: how many there are, and how many bytes wait for slow readers.

A client that opens connections and says nothing takes descriptors; one that does not read takes memory. Neither is
told apart from a slow but honest one, except by what it does when there is too much of it:

* Beyond `most` connections the one that has been idle longest is closed, as RFC 9112 §9.3 allows at any time. Where
  none is idle, the one that has been sending its request longest; where all are being answered, the new one.
* A connection whose unsent bytes shrink by less than `MIN_PROGRESS` within `patience_s` is cut off. Beyond
  `most_unsent` bytes in all, the one that has been stalled longest is.

Also what else uvicorn is told about sockets: no Nagle on the listeners, whose `X-Forwarded-For` is believed, and how
many connections the limit of open files leaves room for.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import stat
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

from slo.host import raise_open_files

MIN_PROGRESS = 64 * 1024  # bytes within the patience; less is not reading
PATIENCE_S = 15.0
MOST_UNSENT = 256 * 2**20

logger = logging.getLogger("xinference.slo")


class Connections:
    """One per server. A member has `transport`, an asyncio transport."""

    def __init__(
        self, later: Callable[[float, Callable[[], None]], Any], *, most: int, patience_s: float = PATIENCE_S,
        most_unsent: int = MOST_UNSENT,
    ) -> None:  # fmt: skip
        self.most = most
        self.patience_s = patience_s
        self.most_unsent = most_unsent
        self.evicted = 0  # idle ones that made room
        self.cut_off = 0  # those that did not read
        self._later = later  # as `loop.call_later`
        self._all: set[Any] = set()
        self._idle: dict[Any, None] = {}  # the longest first
        self._sending: dict[Any, None] = {}  # a request that is not complete yet; the longest first
        self._stalled: dict[Any, int] = {}  # member → unsent bytes when last looked at; the longest first
        self._ticking = False

    def __len__(self) -> int:
        return len(self._all)

    def opened(self, member: Any) -> None:
        """A new connection, which has said nothing yet."""
        self._all.add(member)
        self._idle[member] = None
        if len(self._all) <= self.most:
            return
        oldest = next((each for each in (*self._idle, *self._sending) if each is not member), member)
        if self.evicted == 0:
            logger.warning(
                "xinference-slo: %d connections are open, as many as the limit of open files allows: "
                "closing the one that is idle longest for each new one", self.most,
            )  # fmt: skip
        self.evicted += 1
        self._drop(oldest)
        oldest.transport.abort() if oldest is member else oldest.transport.close()

    def sending(self, member: Any) -> None:
        """A part of a request came."""
        if member in self._idle:
            del self._idle[member]
            self._sending[member] = None

    def busy(self, member: Any) -> None:
        """Its request is complete, and is being answered."""
        self._idle.pop(member, None)
        self._sending.pop(member, None)

    def idle(self, member: Any) -> None:
        """Its request is answered."""
        if member in self._all:
            self._sending.pop(member, None)
            self._idle[member] = None

    def closed(self, member: Any) -> None:
        """It is gone."""
        self._drop(member)
        self._stalled.pop(member, None)

    def stalled(self, member: Any) -> None:
        """It has more unsent bytes than the transport likes, or is closing and may have some."""
        unsent = member.transport.get_write_buffer_size()
        if not unsent or member in self._stalled:
            return
        self._stalled[member] = unsent
        if sum(each.transport.get_write_buffer_size() for each in self._stalled) > self.most_unsent:
            self._cut(next(iter(self._stalled)), "too many bytes wait for clients that do not read")
        if not self._ticking and self._stalled:
            self._ticking = True
            self._later(self.patience_s, self._tick)

    def flowing(self, member: Any) -> None:
        """Its unsent bytes are few again."""
        if not member.transport.is_closing():
            self._stalled.pop(member, None)

    def _tick(self) -> None:
        self._ticking = False
        for member, before in list(self._stalled.items()):
            unsent = member.transport.get_write_buffer_size()
            if unsent == 0:
                del self._stalled[member]
            elif unsent > before - MIN_PROGRESS:
                self._cut(member, f"{unsent} bytes not read within {self.patience_s:g} s")
            else:
                self._stalled[member] = unsent
        if self._stalled:
            self._ticking = True
            self._later(self.patience_s, self._tick)

    def _cut(self, member: Any, why: str) -> None:
        del self._stalled[member]
        self.cut_off += 1
        logger.warning("xinference-slo: connection of a client cut off: %s", why)
        member.transport.abort()

    def _drop(self, member: Any) -> None:
        self._all.discard(member)
        self.busy(member)


LOCAL = ("127.0.0.0/8", "::1")
MOST_CONNECTIONS = 8192  # about 20 KB of memory each


def set_nodelay(port: int) -> int:
    """Turn Nagle's algorithm off on this process's listeners at `port`; accepted sockets inherit it on Linux.

    Without it every kept-alive answer waits 40 ms for the client's delayed ACK. The option lives on the kernel's
    socket, so a duplicate of the descriptor suffices. Gives the number of listeners found.
    """
    try:
        descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        return 0
    return sum(_without_nagle(descriptor, port) for descriptor in descriptors)


def _without_nagle(descriptor: int, port: int) -> bool:
    """Set the option if the descriptor is a listener at `port`."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        copy = os.dup(descriptor)
    except OSError:  # closed since it was listed
        return False
    try:
        with socket.socket(fileno=copy) as sock:
            if not _listens(sock, port):
                return False
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return True
    except OSError:  # a kind of socket that Python cannot ask
        return False


def _listens(sock: socket.socket, port: int) -> bool:
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1  # a connection has the same port
        and sock.getsockname()[1] == port
    )


def most_connections() -> int:
    """Connections that may be open at once, after raising the limit of open files to the highest allowed.

    A quarter of the descriptors, 256 at least, stay for the rest of the process: one that runs out of them ends.
    """
    raise_open_files()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(MOST_CONNECTIONS, limit - max(256, limit // 4)))


def believed_proxies(listed: Sequence[str]) -> list[str]:
    """Whose `X-Forwarded-For` uvicorn shall believe: this machine's and the listed ones, also where IPv6 carries IPv4.

    Xinference's "*" believes everybody: whoever sends the header chooses who is locked out for wrong keys.
    """
    networks = [ip_network(each, strict=False) for each in (*LOCAL, *listed)]
    inside_ipv6 = [
        f"::ffff:{network.network_address}/{96 + network.prefixlen}"
        for network in networks
        if isinstance(network, IPv4Network)
    ]
    return [*map(str, networks), *inside_ipv6]
