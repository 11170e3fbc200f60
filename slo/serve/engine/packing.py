"""
Sequence packing: texts end to end in one row instead of one padded row each.

Three texts of 3, 5 and 2 tokens in a shape of 16::

    ids        a a a b b b b b c c . . . . . .      `.` is filling
    positions  0 1 2 0 1 2 3 4 0 1 0 0 0 0 0 0      restart with each text
    owners     0 0 0 1 1 1 1 1 2 2 -1 -1 …          a token sees the tokens of its owner, nothing else
    rows       0 3 8 0                              where each text's CLS token lies; the rest is filling

so that a text's vector is the same alone or beside any others, no work goes into padding but the last few tokens, and
one pass costs what its tokens cost. The mask is made from `owners` inside the graph. All pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slo.serve.engine.model_files import Pooling

Ints = NDArray[np.int32]

FILLING = -1  # owner of the tokens that only fill the shape
ROWS_PER_TOKENS = 4  # a shape of 160 tokens has room for 40 texts: shorter ones than 4 tokens are rare


@dataclass(frozen=True)
class Pass:
    """One inference: the four inputs of the graph, and which texts of the batch they hold."""

    ids: Ints
    positions: Ints
    owners: Ints
    rows: Ints
    texts: tuple[int, ...]
    tokens: int  # without the filling

    def inputs(self) -> dict[str, Ints]:
        return {"ids": self.ids, "positions": self.positions, "owners": self.owners, "rows": self.rows}


@dataclass(frozen=True)
class Shapes:
    """The token counts that a pass may have. Few, because an engine compiles kernels for each one it meets.

    `cap` is the most tokens that several texts may share; a single text may need up to `longest`.
    """

    cap: int
    longest: int
    counts: tuple[int, ...]

    @classmethod
    def up_to(cls, cap: int, longest: int) -> Shapes:
        """Steps of 8 (a text alone: every token shows), then 16 (the rows of a matrix tile), then coarse."""
        if cap < 8 or longest < 2:
            raise ValueError(f"a pass needs at least 8 tokens and a text 2, not {cap} and {longest}")
        fine = [*range(8, 64, 8), *range(64, 256, 16), *range(256, 512, 64), *range(512, min(cap, 2048), 256)]
        coarse = [*range(512, max(cap, longest, 512) + 512, 512)]
        top = cap + -cap % 8
        counts = {count for count in fine if count < top} | {top}
        counts |= {count for count in (256, 384, *coarse) if top < count < longest}
        counts |= {longest + -longest % 8} if longest > top else set()
        return cls(cap=cap, longest=longest, counts=tuple(sorted(counts)))

    def fit(self, tokens: int, texts: int = 1) -> int:
        """The smallest count that holds so many tokens of so many texts. ValueError when none does."""
        needed = max(tokens, texts * ROWS_PER_TOKENS)
        for count in self.counts:
            if count >= needed:
                return count
        raise ValueError(f"{tokens} tokens of {texts} texts are more than the largest pass, {self.counts[-1]} tokens")


def split(lengths: Sequence[int], cap: int) -> list[list[int]]:
    """Divide texts among as few passes as it takes to keep each at or under `cap` tokens.

    Longest first, each into the first pass with room; a text longer than `cap` has a pass of its own. Returns indices
    into `lengths`, ascending within a pass.
    """
    passes: list[list[int]] = []
    room: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        weight = max(lengths[index], ROWS_PER_TOKENS)
        for number, free in enumerate(room):
            if weight <= free:
                passes[number].append(index)
                room[number] -= weight
                break
        else:
            passes.append([index])
            room.append(cap - weight)
    return [sorted(members) for members in passes]


def pack(
    texts: Sequence[Sequence[int]],
    members: Sequence[int],
    shapes: Shapes,
    *,
    pooling: Pooling,
    first_position: int = 0,
    filling_id: int = 0,
) -> Pass:
    """Lay the token ids of `members` end to end.

    `first_position` is 0 for BERT and 2 for RoBERTa. For mean pooling `rows` holds owners instead of CLS offsets.
    """
    lengths = [len(texts[index]) for index in members]
    tokens = sum(lengths)
    count = shapes.fit(tokens, len(members))
    ids = np.full(count, filling_id, np.int32)
    positions = np.full(count, first_position, np.int32)
    owners = np.full(count, FILLING, np.int32)
    rows = np.zeros(max(1, count // ROWS_PER_TOKENS), np.int32)
    start = 0
    for owner, (index, length) in enumerate(zip(members, lengths, strict=True)):
        end = start + length
        ids[start:end] = texts[index]
        positions[start:end] = np.arange(first_position, first_position + length)
        owners[start:end] = owner
        rows[owner] = start if pooling == "cls" else owner
        start = end
    return Pass(ids, positions, owners, rows, tuple(members), tokens)
