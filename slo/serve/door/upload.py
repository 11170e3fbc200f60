"""
When did the last byte of a request's body come? From then on its time is ours.

A slow uplink is the client's, so neither latency nor deadline counts it. What lies between the body's arrival and its
reading (authentication may be slow) is ours again: only a `receive` that had to wait tells of an arrival.

Bodies stay in memory until their requests are answered, and one that is sent slowly, or says what others wait for
already, is in no queue. So all bodies together are bounded here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

WAITED_S = 0.0001  # what was there already is handed over in a few microseconds


SMALL = 16 * 1024  # bytes; such a body is always let in: large ones do not shut the others out


class Bodies:
    """The bodies of all requests that are being sent, waiting or computed. One per API process."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0

    def refuses(self, size: int, *, more: int = 0) -> bool:
        """Is a body of `size` bytes, of which `more` have still to come, too much beside the others?"""
        return size > SMALL and self.held_bytes + more > self.most_bytes


class Upload:
    """ASGI's `receive` with a watch in it. `received_s` is right once the body has been read; `close` it at the end."""

    def __init__(
        self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], monotonic: Callable[[], float], bodies: Bodies
    ) -> None:
        self.begun_s = self.received_s = monotonic()
        self._receive = receive
        self._now = monotonic
        self._over = False
        self._bodies = bodies
        self._bytes = 0

    @property
    def took_s(self) -> float:
        """From the headers to the last byte of the body."""
        return self.received_s - self.begun_s

    async def __call__(self) -> MutableMapping[str, Any]:
        """The next message."""
        asked_s = self._now()
        message = await self._receive()
        if not self._over:
            now_s = self._now()
            if now_s - asked_s > WAITED_S:
                self.received_s = now_s
            self._over = not message.get("more_body", False)
            size = len(message.get("body", b""))
            self._bytes += size
            self._bodies.held_bytes += size
        return message

    def close(self) -> None:
        """The request is answered: nobody holds its body any more."""
        self._bodies.held_bytes -= self._bytes
        self._bytes = 0
