"""
How true a cheaper precision stays to fp32, and whether that is true enough.

    mean, minimum    cosine between a text's two vectors
    rank             Spearman's correlation between the similarities of all pairs of texts: search results keep their
                     order even where all vectors move a little
    nDCG@10          of questions and passages of one's own, where some were given (see `retrieval`): what is lost of it

Which arithmetic to serve with (`choose`): the fastest that the device has and that stays true to fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from slo.errors import QuantizeError

Vectors = NDArray[np.float32]

MEAN_COSINE, MINIMUM_COSINE, RANK = 0.995, 0.95, 0.995
NDCG_LOSS_POINTS = 0.5
Precision = Literal["int8", "fp16", "bf16", "fp32"]  # fp16 on GPUs only
Request = Literal["auto", "int8", "fp16", "bf16", "fp32"]

FASTEST_FIRST: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Agreement with fp32 over `texts` held-out texts; nDCG@10 of both over `pairs`, if that is not 0."""

    mean_cosine: float
    minimum_cosine: float
    rank: float
    texts: int
    pairs: int = 0
    ndcg: float = 0.0
    ndcg_fp32: float = 0.0

    @property
    def ndcg_loss_points(self) -> float:
        """Hundredths of nDCG@10 lost against fp32; negative where more was found."""
        return 100 * (self.ndcg_fp32 - self.ndcg)

    @property
    def shortfalls(self) -> list[str]:
        """What misses the gate, in words; empty when it passes. A value that is not a number misses it."""
        checks = [
            ("mean cosine", self.mean_cosine, MEAN_COSINE),
            ("minimum cosine", self.minimum_cosine, MINIMUM_COSINE),
            ("Spearman of similarities", self.rank, RANK),
        ]
        missed = [f"{name} {value:.4f} < {least}" for name, value, least in checks if not value >= least]
        if self.pairs and not self.ndcg_loss_points <= NDCG_LOSS_POINTS:
            missed.append(f"nDCG@10 loses {self.ndcg_loss_points:.2f} > {NDCG_LOSS_POINTS} points")
        return missed

    @property
    def passes(self) -> bool:
        return not self.shortfalls

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, float]) -> Fidelity:
        """What `to_json` gave, or an earlier version of it."""
        counts = {name: int(content.get(name, 0)) for name in ("texts", "pairs")}
        return cls(**{**content, **counts})  # type: ignore[arg-type]

    def __str__(self) -> str:
        found = f", nDCG@10 {self.ndcg:.4f} (fp32 {self.ndcg_fp32:.4f}) over {self.pairs} pairs" if self.pairs else ""
        return (
            f"mean cosine {self.mean_cosine:.4f}, minimum {self.minimum_cosine:.4f}, "
            f"Spearman {self.rank:.4f} over {self.texts} texts{found}"
        )


def compare(reference: Vectors, candidate: Vectors) -> Fidelity:
    """Compare two sets of vectors [texts, dimensions] row by row and by the order of their similarities.

    ValueError for fewer than three texts or differing shapes.
    """
    if reference.shape != candidate.shape or len(reference) < 3:
        raise ValueError(f"cannot compare vectors of shapes {reference.shape} and {candidate.shape}")
    first, second = unit(reference), unit(candidate)
    cosines = (first * second).sum(axis=1)
    pairs = np.triu_indices(len(first), k=1)
    return Fidelity(
        mean_cosine=float(cosines.mean()),
        minimum_cosine=float(cosines.min()),
        rank=spearman((first @ first.T)[pairs], (second @ second.T)[pairs]),
        texts=len(first),
    )


def spearman(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Rank correlation; ties share their mean rank. nan when either side is constant or not a number."""
    ranks = [_ranks(values) for values in (left, right)]
    deviations = [values - values.mean() for values in ranks]
    spread = float(np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    if not (spread > 0 and np.isfinite(left).all() and np.isfinite(right).all()):
        return float("nan")
    return float((deviations[0] * deviations[1]).sum() / spread)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[position], dtype=np.float64)


def unit(vectors: Vectors) -> NDArray[np.float64]:
    """The same directions, each of length one."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))


@dataclass(frozen=True)
class Choice:
    """The precision, the reason in words, and the fidelity of every precision that was looked at."""

    precision: Precision
    reason: str
    fidelity: dict[Precision, Fidelity] = field(default_factory=dict)


def choose(
    request: str,
    *,
    supported: Collection[Precision],
    measure: Callable[[Precision], Fidelity],
    no_gain: Callable[[Precision], str] = lambda _: "",
) -> Choice:
    """Pick a precision; `measure` compares one with fp32 and may take minutes (it quantises).

    `auto` tries what the device supports from int8 down to fp32 and falls back with a reason; `no_gain` says why one
    that passes would not be faster than fp32 here, or nothing. A precision that was asked for by name and is absent or
    fails the gate raises QuantizeError: nobody gets other numbers than ordered.
    """
    if request not in get_args(Request):
        raise QuantizeError(f"unknown precision {request!r}", hint=f"one of {', '.join(get_args(Request))}")
    wanted = FASTEST_FIRST if request == "auto" else tuple(p for p in FASTEST_FIRST if p == request)
    refusals: list[str] = []
    seen: dict[Precision, Fidelity] = {}
    for precision in wanted:
        if precision == "fp32":
            return Choice("fp32", "; ".join([*refusals, "fp32 is the fastest that remains"]), seen)
        if precision not in supported:
            if request == "auto":
                continue
            raise QuantizeError(f"this device does not run {precision}", hint="ask for the precision auto")
        try:
            seen[precision] = measure(precision)
        except QuantizeError as error:
            if request != "auto":
                raise
            refusals.append(f"{precision}: {error.message}")
            continue
        if seen[precision].passes and request == "auto" and (slower := no_gain(precision)):
            refusals.append(slower)
        elif seen[precision].passes:
            return Choice(precision, "; ".join([*refusals, f"{precision}: {seen[precision]}"]), seen)
        else:
            refusals.append(f"{precision} fails its fidelity gate: {', '.join(seen[precision].shortfalls)}")
    raise QuantizeError("; ".join(refusals), hint="ask for the precision auto, which falls back by itself")
