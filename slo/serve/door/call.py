"""
One request as the door's outer side hands it to its inner one: the body, the instants, and the headers that matter.

When did the last byte of its body come? From then on its time is ours. A slow uplink is the client's, so neither
latency nor deadline counts it. What lies between the body's arrival and its reading (authentication may be slow) is
ours again: only a `receive` that had to wait tells of an arrival (`Upload`).

Bodies stay in memory until their requests are answered, and one that is sent slowly, or says what others wait for
already, is in no queue. So all bodies together are bounded (`Bodies`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from slo.serve.door.problem import invalid
from slo.serve.door.work import Ticket
from slo.serve.telemetry.telemetry import NO_MODEL

MAX_DEADLINE_MS = 3_600_000
CLIENT_CLOSED = 499  # nginx's number for it; nobody will read this answer
WAITED_S = 0.0001  # what was there already is handed over in a few microseconds
SMALL = 16 * 1024  # bytes; such a body is always let in: large ones do not shut the others out


class ClientGone(Exception):
    """Nobody will read the answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in: `arrived_s` is when its last byte did, `upload_s` after its headers.

    `gone` returns when the client has left; `permit` raises if the host objects.
    """

    body: bytes
    arrived_s: float
    deadline_ms: str | None = None
    class_: str | None = None
    source: str = ""  # probe or bench for the toolkit's own traffic
    gone: Callable[[], Awaitable[None]] | None = None
    permit: Callable[[str], None] | None = None
    fresh: bool = False
    upload_s: float = 0.0

    def deadline_s(self) -> float | None:
        """Seconds of `X-SLO-Deadline-Ms`. Raises `Problem` 400."""
        if self.deadline_ms is None:
            return None
        try:
            value = float(self.deadline_ms)
        except ValueError:
            value = -1.0
        if not 0 < value <= MAX_DEADLINE_MS:
            raise invalid("X-SLO-Deadline-Ms must be a number of milliseconds", param="X-SLO-Deadline-Ms")
        return value / 1000


@dataclass(slots=True)
class RequestTrace:
    """What telemetry wants to know of a request at its end."""

    arrived_s: float
    model: str = NO_MODEL
    length: str = NO_MODEL
    cached: bool = False
    reason: str | None = None
    source: str = ""
    replica: str = ""  # who computed it, or owed it when time was up


def watch_client(ticket: Ticket, call: Call, watch: list[asyncio.Task[None]]) -> None:
    """Fail the ticket once its client has left; the task that looks is put into `watch`."""
    if call.gone is None or ticket.future.done():
        return

    async def wait(gone: Callable[[], Awaitable[None]]) -> None:
        await gone()
        ticket.failed(ClientGone())

    watch.append(asyncio.get_running_loop().create_task(wait(call.gone)))


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
