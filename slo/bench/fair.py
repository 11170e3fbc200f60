"""
A fair sample of a run of any length, over any number of sessions: every request had the same chance to be in it.

Each request draws a number from [0, 1) and is kept while that lies below `share`. When more than `keep` are held,
the share is halved and what lies above it is dropped. Neither the rate nor the length of a slice matters, and samples
that were written down with their numbers before an interruption are thinned like all others afterwards. What is ever
written down grows with the logarithm of the run: about keep · (1 + ½·log₂(requests / keep)) samples.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from slo.records import Sample

Row = dict[str, Any]


class FairSample:
    """Up to `keep` samples. `shift_s` is added to the times of what is offered from now on."""

    def __init__(self, keep: int, seed: str, *, shift_s: float = 0.0) -> None:
        self.share = 1.0
        self.shift_s = shift_s
        self._keep = keep
        self._source = random.Random(f"{seed}/fair")
        self._older: list[tuple[float, Sample]] = []
        self._current: list[tuple[float, Sample]] = []

    def offer(self, sample: Sample) -> None:
        """Keep `sample`, if its number says so."""
        number = self._source.random()
        if number < self.share:
            shift = self.shift_s
            moved = replace(
                sample, due_s=sample.due_s + shift, sent_s=sample.sent_s + shift, done_s=sample.done_s + shift,
                dispatched_s=None,
            )  # fmt: skip
            self._current.append((number, moved))
            self._thin()

    def take(self) -> Row:
        """What was kept since the last call, for the file."""
        rows = [
            [round(n, 9), *(round(t, 6) for t in (s.due_s, s.sent_s, s.done_s)), s.outcome, s.length_class, s.cached]
            for n, s in self._current
        ]  # fmt: skip
        self._older += self._current
        self._current = []
        return {"share": self.share, "rows": rows}

    def restore(self, taken: Iterable[Row]) -> None:
        """Hold again what `take` gave, in any number of sessions."""
        for part in taken:
            self.share = min(self.share, part["share"])
            self._older += [(row[0], Sample(*row[1:])) for row in part["rows"]]
        self._drop()
        self._thin()

    def samples(self) -> list[Sample]:
        """All that are held, in order of due time."""
        return sorted((sample for _, sample in self._older + self._current), key=lambda sample: sample.due_s)

    def _thin(self) -> None:
        while len(self._older) + len(self._current) > self._keep:
            self.share /= 2
            self._drop()

    def _drop(self) -> None:
        self._older = [item for item in self._older if item[0] < self.share]
        self._current = [item for item in self._current if item[0] < self.share]
