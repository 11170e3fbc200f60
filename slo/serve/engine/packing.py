"""
Sequence packing: texts end to end in one row instead of one padded row each.

Three texts of 3, 5 and 2 tokens in a shape of 16::

    ids        a a a b b b b b c c . . . . . .      `.` is filling
    positions  0 1 2 0 1 2 3 4 0 1 0 0 0 0 0 0      restart with each text
    owners     0 0 0 1 1 1 1 1 2 2 -1 -1 …          a token sees the tokens of its owner, nothing else
    rows       0 3 8 0                              where each text's CLS token lies; the rest is filling

so that a text's vector is the same alone or beside any others, no work goes into padding but the last few tokens, and
one pass costs what its tokens cost. Attention alone would cost the square of the pass, so its queries, keys and values
are laid out anew, as many texts to a row as have room, here in rows of 8::

    slots      3 4 5 6 7 0 1 2    8 9 0 0 0 0 0 0   which token stands at a place of the layout
    places     1 1 1 1 1 0 0 0    2 2 -1 -1 …       whose it is: again a token sees those of its owner in its row
    back       5 6 7 0 1 2 3 4 8 9 0 …              at which place a token stands

A pass whose layout is its own row (`slots` 0, 1, 2 …) needs no moving about. All pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slo.serve.engine.encoder_files import Pooling

Ints = NDArray[np.int32]

INPUTS = ("ids", "positions", "owners", "rows", "slots", "places", "back")
FILLING = -1  # owner of the tokens that only fill the shape
ROWS_PER_TOKENS = 4  # a shape of 160 tokens has room for 40 texts: shorter ones than 4 tokens are rare
COARSE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # counts of layout rows; above, of 64


@dataclass(frozen=True)
class Pass:
    """One inference: the inputs of the graph, and which texts of the batch they hold."""

    ids: Ints
    positions: Ints
    owners: Ints
    rows: Ints
    slots: Ints  # [rows, length]
    places: Ints  # [rows, length]
    back: Ints
    texts: tuple[int, ...]
    tokens: int  # without the filling

    def inputs(self) -> dict[str, Ints]:
        return {name: getattr(self, name) for name in INPUTS}

    @property
    def laid_out(self) -> bool:
        """Is the layout of attention another than the row of tokens?"""
        return len(self.slots) > 1


@dataclass(frozen=True)
class Shapes:
    """The token counts that a pass may have. Few, because an engine compiles kernels for each one it meets.

    `cap` is the most tokens that several texts may share; a single text may need up to `longest`.
    """

    cap: int
    longest: int
    counts: tuple[int, ...]

    @classmethod
    def fine(cls, cap: int, longest: int) -> Shapes:
        """For an engine that compiles a new shape within 15 ms: on average less than 3 % of a pass is filling."""
        if cap < 8 or longest < 2:
            raise ValueError(f"a pass needs at least 8 tokens and a text 2, not {cap} and {longest}")
        top = max(cap, longest)
        steps = ((2, 64), (4, 128), (8, 320), (16, 640), (32, 1024), (128, top + 128))
        counts = [4]
        for step, until in steps:
            while counts[-1] < min(until, top):
                counts.append(counts[-1] + step)
        return cls(cap=cap, longest=longest, counts=tuple(counts))

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


def spread(lengths: Sequence[int], cap: int, streams: int) -> list[list[int]]:
    """Divide texts among passes of like size, as many as `streams` or a multiple of that, if there are so many texts.

    Longest first, each into the emptiest pass. No pass of several texts has more than `cap` tokens.
    """
    weights = [max(length, ROWS_PER_TOKENS) for length in lengths]
    count = streams
    while True:
        count = min(count, max(1, len(lengths)))
        passes: list[list[int]] = [[] for _ in range(count)]
        sizes = [0] * count
        for index in sorted(range(len(lengths)), key=lambda i: -weights[i]):
            emptiest = sizes.index(min(sizes))
            passes[emptiest].append(index)
            sizes[emptiest] += weights[index]
        if count == len(lengths) or all(size <= cap for size in sizes):
            return [sorted(members) for members in passes if members]
        count += streams


def pack(
    texts: Sequence[Sequence[int]],
    members: Sequence[int],
    shapes: Shapes,
    *,
    pooling: Pooling,
    first_position: int = 0,
    filling_id: int = 0,
    laid_out: bool = False,
) -> Pass:
    """Lay the token ids of `members` end to end, and for attention in rows of about the longest if `laid_out`.

    `first_position` is 0 for BERT and 2 for RoBERTa. For mean pooling `rows` holds owners instead of CLS offsets.
    """
    lengths = [len(texts[index]) for index in members]
    tokens = sum(lengths)
    count = shapes.fit(tokens, len(members))
    ids = np.full(count, filling_id, np.int32)
    positions = np.full(count, first_position, np.int32)
    owners = np.full(count, FILLING, np.int32)
    rows = np.zeros(_power_of_two(len(members)) if laid_out else max(1, count // ROWS_PER_TOKENS), np.int32)
    starts: list[int] = []
    start = 0
    for owner, (index, length) in enumerate(zip(members, lengths, strict=True)):
        end = start + length
        ids[start:end] = texts[index]
        positions[start:end] = np.arange(first_position, first_position + length)
        owners[start:end] = owner
        rows[owner] = start if pooling == "cls" else owner
        starts.append(start)
        start = end
    inputs = ids, positions, owners, rows
    lines = _lines(lengths) if laid_out else []
    if len(lines) < 2:
        own_row = np.arange(count, dtype=np.int32)
        return Pass(*inputs, own_row[None], owners[None], own_row, tuple(members), tokens)
    return Pass(*inputs, *_layout(lines, lengths, starts, count), tuple(members), tokens)


def _lines(lengths: Sequence[int]) -> list[list[int]]:
    """Which texts share a row of the layout: longest first, each into the first row with room."""
    length = _row_length(max(lengths))
    lines: list[list[int]] = []
    room: list[int] = []
    for owner in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        number = next((number for number, free in enumerate(room) if lengths[owner] <= free), len(lines))
        if number == len(lines):
            lines.append([])
            room.append(length)
        lines[number].append(owner)
        room[number] -= lengths[owner]
    return lines


def _layout(
    lines: Sequence[Sequence[int]], lengths: Sequence[int], starts: Sequence[int], count: int
) -> tuple[Ints, Ints, Ints]:
    """`slots`, `places` and `back`."""
    length = _row_length(max(lengths))
    slots = np.zeros((_row_count(len(lines)), length), np.int32)
    places = np.full(slots.shape, FILLING, np.int32)
    back = np.zeros(count, np.int32)
    for number, line in enumerate(lines):
        at = 0
        for owner in line:
            end, first, last = at + lengths[owner], starts[owner], starts[owner] + lengths[owner]
            slots[number, at:end] = np.arange(first, last)
            places[number, at:end] = owner
            back[first:last] = np.arange(number * length + at, number * length + end)
            at = end
    return slots, places, back


def _row_length(longest: int) -> int:
    """Few, since an engine compiles kernels for each."""
    step = 8 if longest <= 64 else 16 if longest <= 128 else 32
    return longest + -longest % step


def _row_count(lines: int) -> int:
    return next((count for count in COARSE if count >= lines), lines + -lines % COARSE[-1])


def _power_of_two(texts: int) -> int:
    return 1 << max(0, texts - 1).bit_length()
