"""
When did the last byte of a request's body come? From then on its time is ours.

A slow uplink is the client's, so neither latency nor deadline counts it. What lies between the body's arrival and its
reading (authentication may be slow) is ours again: only a `receive` that had to wait tells of an arrival.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

WAITED_S = 0.0001  # what was there already is handed over in a few microseconds


class Upload:
    """ASGI's `receive` with a watch in it. `received_s` is right once the body has been read."""

    def __init__(
        self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], monotonic: Callable[[], float]
    ) -> None:
        self.begun_s = self.received_s = monotonic()
        self._receive = receive
        self._now = monotonic
        self._over = False

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
        return message
