"""
Texts to vectors in three steps, each callable alone: prepare (tokenise, split, pack), infer (one pass), finish (order).

The forward pass is an argument, so the same steps serve OpenVINO, a GPU and the fakes of tests. Nothing here knows of
Xinference, threads or event loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.model_files import ModelFiles
from slo.serve.engine.packing import Pass, Shapes, pack, split
from slo.serve.engine.tokens import Tokens

WARM_TOKENS = 512  # the limit of most models
Forward = Callable[[Pass], Vectors]  # a packed pass → one vector per text in it


@dataclass(frozen=True)
class Batch:
    """Texts made ready: the passes to run, and what is known of each text."""

    passes: list[Pass]
    tokens: Tokens


class Runtime:
    """One model, ready to run."""

    def __init__(
        self, files: ModelFiles, tokenize: Callable[[Sequence[str]], Tokens], forward: Forward, *, pass_tokens: int
    ) -> None:
        self.files = files
        self.shapes = Shapes.up_to(pass_tokens, files.max_tokens)
        self._tokenize = tokenize
        self._forward = forward

    def prepare(self, texts: Sequence[str]) -> Batch:
        """Tokenise and pack; about 0.1 ms per text, safe beside an inference."""
        tokens = self._tokenize(texts)
        plan = split(tokens.counts, self.shapes.cap)
        return Batch([self._pack(tokens.ids, members) for members in plan], tokens)

    def infer(self, packed: Pass) -> Vectors:
        """Run one pass. Calls must not overlap."""
        return self._forward(packed)

    def finish(self, batch: Batch, results: Sequence[Vectors]) -> Vectors:
        """Bring the vectors of all passes into the order of the texts: float32, contiguous, [texts, dimensions]."""
        vectors = np.empty((len(batch.tokens.ids), self.files.dimensions), dtype="<f4")
        for packed, result in zip(batch.passes, results, strict=True):
            vectors[list(packed.texts)] = result
        return vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """All three steps in turn."""
        batch = self.prepare(texts)
        return self.finish(batch, [self.infer(packed) for packed in batch.passes])

    def warm_up(self) -> None:
        """Run the usual shapes once, so that no request waits for kernels to be compiled (50 ms for a new shape).

        Texts of more than `WARM_TOKENS` are rare and take long anyway: their shapes are compiled when they first come.
        A model of 8192 tokens would otherwise take minutes to start, and its memory would be that of its longest text.
        """
        for count in self.shapes.counts:
            if count > max(self.shapes.fit(self.shapes.cap), WARM_TOKENS):
                break
            room = min(count, self.files.max_tokens)
            ids = [[self.files.filling_id] * (length) for length in _parts(count, room)]
            self.infer(self._pack(ids, range(len(ids))))

    def _pack(self, ids: Sequence[Sequence[int]], members: Sequence[int]) -> Pass:
        return pack(
            ids,
            members,
            self.shapes,
            pooling=self.files.pooling,
            first_position=self.files.first_position,
            filling_id=self.files.filling_id,
        )


def _parts(total: int, largest: int) -> list[int]:
    """Text lengths that add up to `total`, none above `largest`."""
    return [largest] * (total // largest) + ([total % largest] if total % largest else [])
