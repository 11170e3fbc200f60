"""
A pass seen from the queue: who computes it, what comes back, and who hears of it.

No host imports: a replica is anything with `embed(texts)`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from slo.serve.door.cache import Vector
from slo.serve.telemetry.telemetry import PassTiming

# What an engine answers: float32 vectors row by row, tokens and characters not read per text, milliseconds by stage.
Embedded = tuple[bytes, list[int], list[int], dict[str, float]]


class ReplicaLost(Exception):
    """The replica cannot be reached, or is not the one that it was. `leaving`: it is being stopped in good order."""

    def __init__(self, reason: str, *, leaving: bool = False) -> None:
        super().__init__(reason)
        self.leaving = leaving


class Replica(Protocol):
    """One model process; `identity` is its uid and address."""

    identity: tuple[str, str]

    @property
    def load(self) -> ReplicaLoad: ...

    async def embed(self, texts: list[str]) -> Embedded:
        """Raises `ReplicaLost`, or whatever the engine raised."""
        ...

    def give_up(self, reason: str) -> None:
        """Let all calls that are out raise `ReplicaLost`."""
        ...


class Observer(Protocol):
    """Who wants to know what happened."""

    def computed(self, replica: Replica, text: str, vector: Vector) -> None:
        """A vector is there."""
        ...

    def passed(self, texts: int, tokens: int, timing: PassTiming) -> None:
        """A pass succeeded."""
        ...

    def lost(self, replica: Replica, *, leaving: bool) -> None:
        """A replica was given up, or is leaving in good order; the list of replicas should be read anew."""
        ...


def size_of(text: str) -> int:
    """Bytes of a text in memory, about: one for each character below U+0100, else two."""
    return len(text) if text.isascii() else 2 * len(text)


def vectors_of(answer: Embedded, expected: int) -> list[Vector | None]:
    """One vector per text, None for one that holds NaN or infinity. Raises `ValueError` if the counts do not fit."""
    packed, tokens, truncated, _ = answer
    if len(tokens) != expected or len(truncated) != expected or not packed or len(packed) % (4 * expected):
        raise ValueError(f"{len(packed)} bytes, {len(tokens)} counts for {expected} texts")
    finite = np.isfinite(np.frombuffer(packed, dtype="<f4").reshape(expected, -1)).all(axis=1).tolist()
    if expected > 1 and not any(finite):
        raise ValueError("no vector is finite")
    size = len(packed) // expected
    return [
        Vector(packed[i * size : (i + 1) * size], tokens[i], truncated[i]) if finite[i] else None
        for i in range(expected)
    ]


@dataclass(slots=True)
class ReplicaLoad:
    """What one replica is doing. Kept by whoever dispatches."""

    passes_s: deque[float] = field(default_factory=deque)  # predicted seconds of each pass handed over
    tokens: int = 0
    busy_until_s: float = 0.0
    free_since_s: float = -1e9
    ended_s: float = -1e9  # when the last pass came back
    last_items: int = 0

    def start(self, now_s: float, predicted_s: float, items: int, tokens: int) -> None:
        """A pass is handed over."""
        self.passes_s.append(predicted_s)
        self.tokens += tokens
        self.busy_until_s = max(now_s, self.busy_until_s) + predicted_s
        self.last_items = items

    def end(self, now_s: float, tokens: int) -> None:
        """The oldest pass is back: predictions for the others start anew from here."""
        self.passes_s.popleft()
        self.tokens -= tokens
        self.busy_until_s = now_s + sum(self.passes_s)
        self.ended_s = now_s
        if not self.passes_s:
            self.free_since_s = now_s

    def remaining_s(self, now_s: float) -> float:
        """Predicted seconds until it is free; at least a little while something runs."""
        return max(self.busy_until_s - now_s, 0.001) if self.passes_s else 0.0
