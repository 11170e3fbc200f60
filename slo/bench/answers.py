"""
Are the answers right? Checked while the load runs, as cheaply as honesty allows.

Every 2xx is checked for its shape without parsing: as many `"embedding":` keys as texts were sent. Every n-th is
parsed: count, dimension, finite numbers. Up to `keep` of those are remembered, and when the load is over the same
request is made again on the idle service, past its cache (`Cache-Control: no-cache`): a vector that differs came
from somebody else's text, or from a bug that only load brings out.
"""

from __future__ import annotations

import base64
import binascii
import math
import random
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from slo.bench.exchange import OK, Exchange
from slo.distinct import Distinct
from slo.errors import BadAnswer
from slo.http import texts_of

Encoding = Literal["float", "base64"]
# Batching may change the last digits (int8 activations, other kernels); another text differs by far more.
LEAST_COSINE = 0.98
_KEY = b'"embedding":'


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer to be compared with its reference."""

    sequence: int
    length_class: str
    body: bytes
    inputs: int
    vectors: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ReferenceCheck:
    """What the comparison with references gave. `unverified`: the reference failed or came from a cache."""

    compared: int = 0
    wrong: tuple[Kept, ...] = ()
    unverified: int = 0
    least_cosine: float = 1.0
    alike: int = 0  # of the wrong ones, those with a vector that another text had


class AnswerCheck:
    """Checks answers as they come; `every`-th thoroughly. `dimension` is learnt from the first if not given."""

    def __init__(self, *, every: int = 50, keep: int = 48, dimension: int | None = None, seed: int = 1) -> None:
        self.dimension = dimension
        self.parsed = 0
        self.kept: list[Kept] = []
        self._every, self._keep = every, keep
        self._seen = 0
        self._offered = 0  # to the reservoir, since it was last emptied
        self._source = random.Random(f"{seed}/answers")

    def outcome(self, exchange: Exchange) -> str:
        """`ok`, or `bad_answer`, for a 2xx."""
        body = exchange.answer
        thorough = self._seen % self._every == 0
        self._seen += 1
        if not thorough and body.count(_KEY) == exchange.inputs:
            return OK
        vectors = decode(body, exchange.inputs)
        if vectors is None or (self.dimension not in (None, vectors.shape[1])):
            return BadAnswer.outcome
        self.dimension = vectors.shape[1]
        self.parsed += 1
        if exchange.measured and not exchange.cached:
            self._remember(Kept(exchange.sequence, exchange.length_class, exchange.body, exchange.inputs, vectors))
        return OK

    def take(self) -> list[Kept]:
        """The kept answers; none are kept from now on but new ones."""
        kept, self.kept, self._offered = self.kept, [], 0
        return kept

    def _remember(self, kept: Kept) -> None:
        """A uniform sample of all that were parsed (reservoir)."""
        self._offered += 1
        if len(self.kept) < self._keep:
            self.kept.append(kept)
        elif (slot := self._source.randrange(self._offered)) < self._keep:
            self.kept[slot] = kept


def decode(body: bytes, inputs: int) -> NDArray[np.float32] | None:
    """The vectors of an answer in the order of its inputs, as rows; None if it is not a whole, finite answer."""
    try:
        data: Any = orjson.loads(body)
        rows = sorted(data["data"], key=lambda row: row["index"])
        vectors = np.stack([_vector(row["embedding"]) for row in rows])
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    whole = vectors.ndim == 2 and vectors.shape[0] == inputs and vectors.shape[1] > 0
    return vectors if whole and bool(np.isfinite(vectors).all()) else None


def _vector(value: Any) -> NDArray[np.float32]:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
    return np.asarray(value, dtype=np.float32)


def compare(kept: list[Kept], references: list[NDArray[np.float32] | None]) -> ReferenceCheck:
    """Cosine of each kept answer with its reference, the least over the texts of a request; and with each other."""
    wrong: list[Kept] = twins(kept)
    twin_sequences = {answer.sequence for answer in wrong}
    unverified, least = 0, 1.0
    for answer, reference in zip(kept, references, strict=True):
        if reference is None:
            unverified += 1
            continue
        cosine = _least_cosine(answer.vectors, reference)
        least = min(least, cosine)
        if not cosine >= LEAST_COSINE and answer.sequence not in twin_sequences:
            wrong.append(answer)
    compared = len(kept) - unverified
    return ReferenceCheck(
        compared=compared, wrong=tuple(wrong), unverified=unverified, least_cosine=least, alike=len(twin_sequences)
    )


def twins(kept: list[Kept]) -> list[Kept]:
    """Answers one of whose vectors another text had before."""
    distinct = Distinct()
    return [
        answer
        for answer in kept
        if any(
            distinct.is_taken(text, row.tobytes())
            for text, row in zip(texts_of(answer.body), answer.vectors, strict=False)
        )
    ]


def _least_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.shape != b.shape:
        return -1.0
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = float(np.min((a * b).sum(axis=1) / np.where(norms == 0, math.inf, norms)))
    return min(1.0, cosine)
