"""
Texts to vectors in three steps, each callable alone: prepare (tokenise, split, pack), infer (one pass), finish (order).

The forward pass is an argument, so the same steps serve OpenVINO, a GPU and the fakes of tests. Nothing here knows of
Xinference, threads or event loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np

from slo.serve.engine.encoder_files import EncoderFiles
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.packing import Pass, Shapes, pack, split, spread
from slo.serve.engine.tokens import Tokens

WARM_TOKENS = 512  # the limit of most models
NARROW_TOKENS = 320  # of several texts in a narrow pass; a call of bulk work has 512 for two streams
TIMED_TOKENS, TIMES = (24, 80, 160), 3


class Forward(Protocol):
    """A packed pass → one vector per text in it, with all threads or on the stream of that number."""

    def __call__(self, packed: Pass, /) -> Vectors: ...


class Streaming(Forward, Protocol):
    """A forward pass that may run on one of several streams."""

    def __call__(self, packed: Pass, stream: int | None = None, /) -> Vectors: ...


@dataclass(frozen=True)
class PassTime:
    """Seconds of a pass, seen while warming up."""

    narrow: bool
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Texts made ready: the passes to run, and what is known of each text."""

    passes: list[Pass]
    tokens: Tokens
    narrow: bool = False  # each pass on one stream


class Runtime:
    """One model, ready to run. With a `Streaming` forward pass there may be several `streams`."""

    def __init__(
        self,
        files: EncoderFiles,
        tokenize: Callable[[Sequence[str]], Tokens],
        forward: Forward | Streaming,
        *,
        pass_tokens: int,
        streams: int = 1,
        fine: bool = False,
    ) -> None:
        """`fine`: a new shape costs little."""
        self.files = files
        self.shapes = (Shapes.fine if fine else Shapes.up_to)(pass_tokens, files.max_tokens)
        self.streams = streams
        self.timed: list[PassTime] = []
        self._fine = fine
        self._tokenize = tokenize
        self._forward: Callable[..., Vectors] = forward

    def tokenise(self, texts: Sequence[str]) -> Tokens:
        """About 0.1 ms per text, safe beside an inference."""
        return self._tokenize(texts)

    def plan(self, tokens: Tokens, *, narrow: bool) -> list[list[int]]:
        """Which texts share a pass, with all threads or on one stream each."""
        if narrow:
            return spread(tokens.counts, min(NARROW_TOKENS, self.shapes.counts[-1]), self.streams)
        return split(tokens.counts, self.shapes.cap)

    def batch(self, tokens: Tokens, plan: Sequence[Sequence[int]], *, narrow: bool) -> Batch:
        """Pack the texts of a plan."""
        return Batch([self._pack(tokens.ids, members, narrow=narrow) for members in plan], tokens, narrow)

    def prepare(self, texts: Sequence[str]) -> Batch:
        """Tokenise and pack for passes with all threads."""
        tokens = self.tokenise(texts)
        return self.batch(tokens, self.plan(tokens, narrow=False), narrow=False)

    def infer(self, packed: Pass, stream: int | None = None) -> Vectors:
        """Run one pass. Calls of one stream must not overlap, nor those without one with any other."""
        return self._forward(packed) if stream is None else self._forward(packed, stream)

    def finish(self, batch: Batch, results: Sequence[Vectors]) -> Vectors:
        """Bring the vectors of all passes into the order of the texts: float32, contiguous, [texts, dimensions]."""
        vectors = np.empty((len(batch.tokens.ids), self.files.dimensions), dtype="<f4")
        for packed, result in zip(batch.passes, results, strict=True):
            vectors[list(packed.texts)] = result
        return vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """All steps in turn."""
        batch = self.prepare(texts)
        return self.finish(batch, [self.infer(packed) for packed in batch.passes])

    def warm_up(self) -> None:
        """Run the usual shapes once, so that few requests wait for kernels to be compiled (15 ms for a new shape).

        Texts of more than `WARM_TOKENS` are rare and take long anyway: their shapes are compiled when they first come.
        A model of 8192 tokens would otherwise take minutes to start, and its memory would be that of its longest text.
        """
        for count in self._usual():
            self.infer(self._filled(count, min(count, self.files.max_tokens)))
        if self.streams < 2:
            return
        with ThreadPoolExecutor(self.streams) as pool:
            for count in TIMED_TOKENS:
                if count <= self.shapes.cap:
                    self._time(count, pool)

    def _usual(self) -> list[int]:
        """All shapes of an engine that takes long to compile one, else some of each size."""
        counts = [count for count in self.shapes.counts if count <= max(self.shapes.fit(self.shapes.cap), WARM_TOKENS)]
        if not self._fine:
            return counts
        return [count for count in counts if count % (4 if count <= 64 else 16 if count <= 160 else 64) == 0]

    def _time(self, count: int, pool: ThreadPoolExecutor) -> None:
        """What a pass costs with all threads, and on each stream at once."""
        length = min(TIMED_TOKENS[0], self.files.max_tokens)
        wide, narrow = self._filled(count, length), self._filled(count, length, narrow=True)

        def on(stream: int | None) -> float:
            begun_s = perf_counter()
            self.infer(wide if stream is None else narrow, stream)
            return perf_counter() - begun_s

        for number in range(TIMES + 1):
            wide_s, narrow_s = on(None), max(pool.map(on, range(self.streams)))
            if number:  # the first one compiles
                self.timed += [PassTime(False, count, wide_s), PassTime(True, count, narrow_s)]

    def _filled(self, count: int, length: int, *, narrow: bool = False) -> Pass:
        """A pass of `count` tokens in texts of `length`."""
        ids = [[self.files.filling_id] * length for length in _parts(count, length)]
        return self._pack(ids, range(len(ids)), narrow=narrow)

    def _pack(self, ids: Sequence[Sequence[int]], members: Sequence[int], *, narrow: bool = False) -> Pass:
        return pack(
            ids,
            members,
            self.shapes,
            pooling=self.files.pooling,
            first_position=self.files.first_position,
            filling_id=self.files.filling_id,
            laid_out=narrow,
        )


def _parts(total: int, largest: int) -> list[int]:
    """Text lengths that add up to `total`, none above `largest`."""
    return [largest] * (total // largest) + ([total % largest] if total % largest else [])
