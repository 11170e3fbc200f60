"""
What all connections of the server may hold together: how many there are, and how many bytes wait for slow readers.

A client that opens connections and says nothing takes descriptors; one that does not read takes memory. Neither is
told apart from a slow but honest one, except by what it does when there is too much of it:

* Beyond `most` connections the one that has been idle longest is closed, as RFC 9112 §9.3 allows at any time. Where
  none is idle, the one that has been sending its request longest; where all are being answered, the new one.
* A connection whose unsent bytes shrink by less than `MIN_PROGRESS` within `patience_s` is cut off. Beyond
  `most_unsent` bytes in all, the one that has been stalled longest is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

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
