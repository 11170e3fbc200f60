"""
When a server that died is started again, and when one that is silent counts as hung. Pure; the clock is an argument.

A first death is repaired at once. Each further one within `STEADY_S` of a start doubles the pause, up to `CAP_S`: a
server that cannot live is not to keep the machine busy with starting it.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

STEADY_S = 120.0  # a server that lived for so long has recovered; the next death is a new story
FIRST_PAUSE_S = 2.0
CAP_S = 60.0
# A busy or swapping machine is no reason to end a server: every one of so many questions, each with its own patience.
HANG_CHECKS = 4
HANG_S = 10.0
CLUSTER_HANG_S = 60.0  # its silence is no outage: requests go past it, and some of its work holds it up for long
PATIENCE_S = 2.5  # for one answer, by those who keep a server


@dataclass(slots=True)
class Restarts:
    """What became of a server so far. `failures` are deaths in a row, `total` all of them."""

    failures: int = 0
    total: int = 0
    started_s: float = 0.0
    due_s: float | None = None  # when the next start is due; None while it lives

    def started(self, now_s: float) -> None:
        """A server runs from now on."""
        self.started_s, self.due_s = now_s, None

    def died(self, now_s: float) -> float:
        """The server is gone, or a start of it has failed; seconds until it is to be started."""
        if self.due_s is None and now_s - self.started_s >= STEADY_S:
            self.failures = 0
        self.failures += 1
        self.total += 1
        pause_s = 0.0 if self.failures == 1 else min(CAP_S, FIRST_PAUSE_S * 2.0 ** (self.failures - 2))
        self.due_s = now_s + pause_s
        return pause_s

    def ordered(self, now_s: float) -> None:
        """It was ended to be started anew: no death, and no pause."""
        self.failures, self.due_s = 0, now_s

    def due(self, now_s: float) -> bool:
        """Is it time to start it?"""
        return self.due_s is not None and now_s >= self.due_s


@dataclass(slots=True)
class SilentChecks:
    """Answers of one part of the server, one question after another. Hung: none for `limit_s`, and to several."""

    limit_s: float
    since_s: float
    missed: int = 0

    def record(self, now_s: float, *, answered: bool) -> bool:
        """Note the outcome of a question; True when the part counts as hung."""
        if answered:
            self.begin(now_s)
            return False
        self.missed += 1
        return self.missed >= HANG_CHECKS and now_s - self.since_s >= self.limit_s

    def begin(self, now_s: float) -> None:
        """Count from now: it has answered, is another process, or nobody has asked for a while."""
        self.since_s, self.missed = now_s, 0


def answers(endpoint: str, path: str, *, timeout_s: float) -> bool:
    """Whether `endpoint` begins an HTTP answer to `GET path` in time, whatever its status."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode("ascii")
    deadline_s = time.monotonic() + timeout_s
    received = b""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(request)
            while len(received) < len(b"HTTP/1.1 "):
                connection.settimeout(max(0.01, deadline_s - time.monotonic()))
                piece = connection.recv(64)
                if not piece:
                    return False
                received += piece
    except OSError:
        return False
    return received.startswith(b"HTTP/")
