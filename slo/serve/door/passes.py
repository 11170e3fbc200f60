"""
A pass seen from the queue: who computes it, what comes back, and who hears of it.

No host imports: a replica is anything with `embed(texts)`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from slo.serve.door.cache import Vector
from slo.serve.door.planner import ReplicaLoad
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
