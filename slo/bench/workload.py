"""
What is asked: texts by length class and weight, one or several per request, unique unless repeats are asked for.

Unique by default, since a repeated text would measure a cache. See `own_texts` for texts from a file.

Lengths are fixed or drawn, in characters or tokens, alone or mixed as real workloads mix them. `20..400:lognormal`
draws between 20 and 400 characters; 95 % of what the distribution has lie between the two ends, and what lies outside
is drawn again. `tokens:128` has 128 tokens, its two special ones included: of a Chinese vocabulary a character is one
token. Other tokenizers make more or fewer of the same text.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import Any, Literal

from slo.bench.own_texts import Content, OwnRequest, OwnTexts
from slo.errors import ConfigError
from slo.texts import LENGTHS, SPECIAL_TOKENS, class_of, texts

Shape = Literal["uniform", "lognormal"]
FEWEST = 4  # characters: shorter texts soon repeat
MOST = 100_000
POPULATION = 2_000  # distinct texts behind a Zipf draw


@dataclass(frozen=True)
class Lengths:
    """Characters per text, within `low` and `high`."""

    low: int
    high: int
    shape: Shape = "uniform"

    def draw(self, source: random.Random) -> int:
        """One length in characters."""
        if self.shape == "uniform" or self.low == self.high:
            return source.randint(self.low, self.high)
        middle, spread = (math.log(self.low * self.high) / 2), math.log(self.high / self.low) / 4
        while True:
            length = round(source.lognormvariate(middle, spread))
            if self.low <= length <= self.high:
                return length


# What people ask, and what they ask it of. `mixed-rag`: four questions for each passage that is indexed.
READY: dict[str, Lengths] = {
    "query": Lengths(4, 40, "lognormal"),
    "passage": Lengths(64 - SPECIAL_TOKENS, 512 - SPECIAL_TOKENS, "lognormal"),
}
WORKLOADS: dict[str, tuple[str, int]] = {  # name → mix, texts per request
    "query": ("query", 1),
    "passage": ("passage", 1),
    "mixed-rag": ("query=4,passage=1", 1),
    "bulk": ("passage", 32),
}


def lengths_of(name: str) -> Lengths | None:
    """The lengths that a part of a mix names: `query`, `chars:20..400:lognormal`, `tokens:128`; None for a class.

    Raises `ConfigError` for a range that is none.
    """
    if name in READY:
        return READY[name]
    unit, colon, rest = name.partition(":")
    if not colon or unit not in ("chars", "tokens"):
        return None
    span, _, shape = rest.partition(":")
    first, dots, last = span.partition("..")
    try:
        low = int(first)
        high = int(last) if dots else low
    except ValueError:
        low = high = -1
    less = SPECIAL_TOKENS if unit == "tokens" else 0
    if not FEWEST <= low - less <= high - less <= MOST or shape not in ("", "uniform", "lognormal"):
        raise ConfigError(
            f"{name!r} is no length: from {FEWEST + less} {unit} on, the smaller first",
            hint="write --chars 20..400:lognormal, --chars 50, --tokens 128 or --tokens 64..512:uniform",
        )
    return Lengths(low - less, high - less, "lognormal" if shape == "lognormal" else "uniform")


@dataclass(frozen=True, slots=True)
class Item:
    """The texts of one request (or their token ids), and the class that they belong to.

    `single`: the text is sent alone, not in a list. `fresh`: a cache must not answer, since it was sent before.
    """

    texts: tuple[Content, ...]
    length_class: str
    single: bool = False
    fresh: bool = False
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Weights of the classes, texts per request (`batch`), Zipf exponent of repeats, own texts, seed."""

    mix: tuple[tuple[str, float], ...] = (("short", 1.0), ("medium", 1.0), ("long", 1.0))
    batch: int = 1
    zipf: float | None = None
    own: OwnTexts | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 10_000:
            raise ConfigError(f"{self.batch} texts per request", hint="give --batch between 1 and 10000")
        if self.zipf is not None and not 0 < self.zipf <= 5:
            raise ConfigError(f"Zipf exponent {self.zipf:g} is not within (0, 5]", hint="1.0 is common")

    def only(self, length_class: str) -> Workload:
        """The same with one class alone."""
        return replace(self, mix=((length_class, 1.0),), own=None)

    def describe(self) -> dict[str, Any]:
        """For the record: everything but the texts."""
        return {
            "mix": "own texts" if self.own else dict(self.mix),
            "own_texts": len(self.own) if self.own else 0,
            "own_digest": self.own.digest if self.own else None,
            "batch": self.batch,
            "zipf": self.zipf,
            "seed": self.seed,
        }

    def items(self, chars: Sequence[tuple[int, ...]] | None = None) -> Iterator[Item]:
        """Endless items, the same for the same seed. With `chars`, their lengths follow a trace, once."""
        if chars is not None:
            return _replayed(chars, self.seed)
        if self.own is not None:
            return self._own_items(self.own)
        singles = self._drawn()
        return (_batch(islice(singles, self.batch)) for _ in iter(int, 1))

    def _own_items(self, own: OwnTexts) -> Iterator[Item]:
        if self.zipf is None:
            return (_own_item(*own.take()) for _ in iter(int, 1))
        return (_own_item(own.requests[r], False) for r in zipf_ranks(len(own), self.zipf, self.seed))

    def _drawn(self) -> Iterator[tuple[str, str]]:
        source = random.Random(f"{self.seed}/mix")
        names, odds = [n for n, _ in self.mix], [w for _, w in self.mix]
        streams = {name: self._stream(name) for name in names}
        while True:  # the texts of one request are of one class: it is the request that has a latency
            name = source.choices(names, odds)[0]
            for _ in range(self.batch):
                text = next(streams[name])
                yield text, name if name in LENGTHS else class_of(len(text))

    def _stream(self, name: str) -> Iterator[str]:
        lengths = lengths_of(name)
        stream = texts(name, self.seed) if lengths is None else _of_lengths(lengths, f"{self.seed}/{name}", self.seed)
        if self.zipf is None:
            return stream
        known = list(islice(stream, POPULATION))
        return (known[r] for r in zipf_ranks(POPULATION, self.zipf, self.seed))


def parse_mix(text: str) -> tuple[tuple[str, float], ...]:
    """Weights written `short=1,medium=2`, `query=4,doc256=1` or just `long`. Raises `ConfigError`."""
    pairs: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            value = float(weight or 1)
        except ValueError:
            value = -1.0
        known = name in LENGTHS or lengths_of(name) is not None
        if not known or name in pairs or not 0 <= value < float("inf"):
            raise ConfigError(
                f"{text!r} is not a mix of {', '.join((*LENGTHS, *READY))}", hint="write short=1,medium=1,long=1"
            )
        pairs[name] = value
    if not sum(pairs.values()):
        raise ConfigError(f"{text!r}: all weights are zero")
    return tuple((name, value) for name, value in pairs.items() if value)


def zipf_ranks(population: int, exponent: float, seed: int) -> Iterator[int]:
    """Endless ranks 0…population−1 with P(r) ∝ (r+1)^−exponent."""
    source = random.Random(f"{seed}/zipf")
    cumulative = list(accumulate((rank + 1) ** -exponent for rank in range(population)))
    while True:
        yield min(population - 1, bisect_left(cumulative, source.random() * cumulative[-1]))


def _batch(pairs: Iterator[tuple[str, str]]) -> Item:
    found = list(pairs)
    longest = max((name for _, name in found), key=lambda n: LENGTHS[n])
    return Item(tuple(text for text, _ in found), longest, single=len(found) == 1)


def _own_item(request: OwnRequest, known: bool) -> Item:
    longest = class_of(max(map(len, request.inputs)))
    return Item(request.inputs, longest, single=request.single, fresh=known, name=request.name)


def _replayed(chars: Sequence[tuple[int, ...]], seed: int) -> Iterator[Item]:
    """Texts of these lengths. Each begins with a short one that never comes again: a cache must not answer."""
    heads, fillers = texts("short", seed), texts("long", seed)
    for lengths in chars:
        found = tuple(_of_length(next(heads), fillers, n) for n in lengths)
        yield Item(found, class_of(max(lengths)), single=len(found) == 1)


def _of_lengths(lengths: Lengths, name: str, seed: int) -> Iterator[str]:
    """Unique texts of drawn lengths."""
    source = random.Random(name)
    heads, fillers = texts("short", seed), texts("long", seed)
    return (_of_length(head, fillers, lengths.draw(source)) for head in heads)


def _of_length(head: str, fillers: Iterator[str], length: int) -> str:
    text = head
    while len(text) < length:
        text += next(fillers)
    return text[:length]
