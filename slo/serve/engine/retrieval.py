"""
Does a cheaper precision still find what fp32 finds? Questions, each with its passage, ranked by cosine.

    nDCG@10    1 when every question ranks its own passage first, 0.63 when second, 0 when not among the first ten

A loss is told in points, hundredths of it. Cosines to fp32 say how far vectors moved; this says whether it matters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slo.errors import ConfigError
from slo.serve.engine.fidelity import Vectors, unit

DEPTH = 10
LEAST_PAIRS = 50  # one question more or less on its second rank is 0.7 points then
BLOCK = 1024  # questions compared at a time


@dataclass(frozen=True)
class Pairs:
    """Questions and, place by place, the passages that answer them. Equal passages count as one."""

    queries: tuple[str, ...]
    passages: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """What has to be embedded: the questions, then the passages."""
        return [*self.queries, *self.passages]


def read_pairs(path: Path) -> Pairs:
    """Pairs from a file: JSON lines with `query` and `passage`, or two columns parted by a tab.

    Texts are embedded as they stand, so whatever prefixes the model wants belong into them. Raises ConfigError naming
    the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    found = [_pair(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if len(found) < LEAST_PAIRS:
        raise ConfigError(f"{len(found)} pairs, at least {LEAST_PAIRS} are needed", where=str(path),
                          hint="some hundreds of real questions with the passages that answer them")  # fmt: skip
    return Pairs(tuple(query for query, _ in found), tuple(passage for _, passage in found))


def _pair(line: str, where: str) -> tuple[str, str]:
    if line.lstrip().startswith("{"):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError("not JSON", where=where) from error
        columns = [content.get("query"), content.get("passage")]
    else:
        columns = line.split("\t")
    match columns:
        case [str(query), str(passage)] if query.strip() and passage.strip():
            return query, passage
    raise ConfigError("no pair of a query and a passage", where=where,
                      hint='write {"query": …, "passage": …}, or two columns parted by a tab')  # fmt: skip


def ndcg(pairs: Pairs, vectors: Vectors) -> float:
    """Mean nDCG@10 over the questions; `vectors` are those of `pairs.texts`, of any length.

    A passage of the same score as the right one counts as ranked before it. A vector that is not a number finds
    nothing.
    """
    count = len(pairs.queries)
    wide = unit(vectors)
    own = _numbered(pairs.passages)
    keep = np.unique(own, return_index=True)[1]  # each passage once, in the order of its number
    queries, passages = wide[:count], wide[count:][keep]
    gains = [_gains(queries[at : at + BLOCK], passages, own[at : at + BLOCK]) for at in range(0, count, BLOCK)]
    return float(np.concatenate(gains).mean())


def _gains(queries: NDArray[np.float64], passages: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = queries @ passages.T
    mine = scores[np.arange(len(own)), own]
    ranks = (~(scores < mine[:, None])).sum(axis=1)  # not a number is no better than anything
    return np.asarray(np.where(ranks <= DEPTH, 1 / np.log2(ranks + 1.0), 0.0))


def _numbered(texts: Sequence[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)
