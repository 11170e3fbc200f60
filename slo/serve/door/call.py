"""
One request as the door's outer side hands it to its inner one: the body, the instants, and the headers that matter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from slo.serve.door.problem import invalid

MAX_DEADLINE_MS = 3_600_000
CLIENT_CLOSED = 499  # nginx's number for it; nobody will read this answer


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
