"""
Vectors of texts seen before: exact text × generation of the weights, least recently used first out, bounded in bytes.

A generation is a number that the model's entry draws anew whenever other weights serve it, so a relaunch can never
be answered with old vectors. `dimensions` and the encoding are applied after the look-up: one entry serves them all.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass

# An entry's dictionary slot, tuple, linked-list node and `Vector`, besides text and vector themselves.
ENTRY_BYTES = 360


@dataclass(frozen=True, slots=True)
class Vector:
    """One text's result: float32 little endian, tokens that were read, and characters beyond the model's limit."""

    packed: bytes
    tokens: int
    truncated: int


class Cache:
    """Bounded by `max_bytes`; a bound of zero turns it off."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evictions = 0
        self._entries: OrderedDict[tuple[int, str], Vector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def enabled(self) -> bool:
        return self.max_bytes > 0

    def get(self, generation: int, text: str) -> Vector | None:
        """The vector, which counts as used now; None when unknown."""
        key = (generation, text)
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, generation: int, text: str, vector: Vector) -> None:
        """Remember; whatever is larger than the whole cache is not kept."""
        key, size = (generation, text), _size(text, vector)
        if size > self.max_bytes:
            return
        old = self._entries.pop(key, None)
        if old is not None:
            self.bytes -= _size(text, old)
        self._entries[key] = vector
        self.bytes += size
        while self.bytes > self.max_bytes:
            (_, oldest), value = self._entries.popitem(last=False)
            self.bytes -= _size(oldest, value)
            self.evictions += 1

    def forget(self, generation: int) -> None:
        """Drop all vectors of one generation."""
        for key in [key for key in self._entries if key[0] == generation]:
            self.bytes -= _size(key[1], self._entries.pop(key))

    def clear(self) -> int:
        """Drop everything; how many vectors that were."""
        count = len(self._entries)
        self._entries.clear()
        self.bytes = 0
        return count


def _size(text: str, vector: Vector) -> int:
    return sys.getsizeof(text) + sys.getsizeof(vector.packed) + ENTRY_BYTES
