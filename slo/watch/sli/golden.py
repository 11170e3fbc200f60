"""
Are the vectors right? What can be seen of that from outside, on the answers to our own probes.

Each vector has the right number of dimensions and the right length, differs from the vector before it, and those of
three fixed texts, asked past any cache, are what they were: their *golden vectors* are remembered from the first good
answers on, by what the server says of its weights. Other weights have others; a server that says nothing of them has
one set until `slo watch --new-golden`. When no golden vector of a round is met, the model is another one, and none of
the round's answers is believed.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from slo.client import cosine
from slo.texts import SEED_EXAMPLES

TEXTS = tuple(SEED_EXAMPLES.items())  # length class and text
ALIKE = 0.98  # least cosine with the golden vector: below what passes of any engine differ by, above what is wrong
SAME = 1 - 1e-6  # from this cosine on, two vectors are one
UNIT = 0.02  # how far from 1 the length of a normalised vector may be
KEPT = 4  # sets of weights


@dataclass(frozen=True, slots=True)
class Seen:
    """The vector of one probe; `golden` is the index in `TEXTS`, None for a text of its own."""

    vector: Sequence[float]
    golden: int | None = None


class Golden:
    """What is remembered of one model at one address."""

    def __init__(self, url: str, model: str) -> None:
        self._url, self._model = url, model
        self._sets: dict[str, dict[int, list[float]]] = {}
        self._weights = ""
        self._renewed = False  # other weights since the last round: its answers may be of either

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue with what the watcher before this one remembered of the same model at the same address."""
        if state and (state["url"], state["model"]) == (self._url, self._model):
            self._weights = state["weights"]
            self._sets = {
                weights: {int(index): _unpacked(text) for index, text in vectors.items()}
                for weights, vectors in state["sets"].items()
            }

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        sets = {w: {index: _packed(vector) for index, vector in found.items()} for w, found in self._sets.items()}
        return {"url": self._url, "model": self._model, "weights": self._weights, "sets": sets}

    def serving(self, weights: str) -> None:
        """The server says that it serves these weights; empty: it says nothing, and nothing changes."""
        if weights and weights != self._weights:
            self._renewed = bool(self._weights)
            self._weights = weights

    def judge(self, answers: Sequence[Seen]) -> list[str]:
        """For each answer of a round, in order: what is wrong with it, empty if nothing. Learns what is new."""
        known = {} if self._renewed else self._sets.get(self._weights, {})
        model = next(iter(known.values()), None)
        reasons = [_shape(seen.vector, model) for seen in answers]
        for index, (before, seen) in enumerate(pairwise(answers), start=1):
            if not reasons[index] and (before.golden is None or before.golden != seen.golden) and _same(before, seen):
                reasons[index] = "the same vector for different texts"
        for index, seen in enumerate(answers):
            if not reasons[index] and seen.golden in known:
                likeness = cosine(known[seen.golden], seen.vector)
                if likeness < ALIKE:
                    reasons[index] = f"the vector of a known text has changed, its cosine is {likeness:.2f}"
        golden = [index for index, seen in enumerate(answers) if seen.golden in known]
        if golden and all(reasons[index] for index in golden):
            reasons = [reason or "no known text has its vector any more" for reason in reasons]
        elif not self._renewed:
            self._learn(answers, reasons)
        self._renewed = False
        return reasons

    def _learn(self, answers: Sequence[Seen], reasons: Sequence[str]) -> None:
        for seen, reason in zip(answers, reasons, strict=True):
            if seen.golden is not None and not reason:
                self._sets.setdefault(self._weights, {}).setdefault(seen.golden, list(seen.vector))
        while len(self._sets) > KEPT:
            del self._sets[next(weights for weights in self._sets if weights != self._weights)]


def _shape(vector: Sequence[float], model: Sequence[float] | None) -> str:
    """Dimensions and length, compared with a vector that is known to be right, if there is one."""
    length = math.hypot(*vector)
    if not length > 0 or not math.isfinite(length):
        return "a vector without length"
    if model is None:
        return ""
    if len(vector) != len(model):
        return f"{len(vector)} dimensions instead of {len(model)}"
    usual = math.hypot(*model)
    unit = abs(usual - 1) <= UNIT
    if abs(length - 1) > UNIT if unit else not usual / 10 < length < usual * 10:
        return f"a vector of length {length:.3g} instead of {usual:.3g}"
    return ""


def _same(one: Seen, other: Seen) -> bool:
    return len(one.vector) == len(other.vector) and cosine(one.vector, other.vector) > SAME


def _packed(vector: Sequence[float]) -> str:
    """As half-precision numbers: enough for a cosine, and a few kilobytes a minute less to write."""
    largest = max(map(abs, vector)) or 1.0
    values = struct.pack(f"<d{len(vector)}e", largest, *(value / largest for value in vector))
    return base64.b64encode(values).decode("ascii")


def _unpacked(text: str) -> list[float]:
    raw = base64.b64decode(text)
    largest, *values = struct.unpack(f"<d{(len(raw) - 8) // 2}e", raw)
    return [value * largest for value in values]
