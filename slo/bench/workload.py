"""
What is asked: texts by length class and weight, one or several per request, unique unless repeats are wished for.

Unique by default, since a repeated text would measure a cache.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, cycle, islice
from pathlib import Path
from typing import Any

from slo.errors import ConfigError
from slo.texts import CLASSES, texts

POPULATION = 2_000  # distinct texts behind a Zipf draw


@dataclass(frozen=True, slots=True)
class Item:
    """The texts of one request, and the class that they belong to."""

    texts: tuple[str, ...]
    length_class: str


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Weights of the classes, texts per request (`batch`), Zipf exponent of repeats, own texts, seed."""

    mix: tuple[tuple[str, float], ...] = (("short", 1.0), ("medium", 1.0), ("long", 1.0))
    batch: int = 1
    zipf: float | None = None
    own: tuple[str, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= 10_000:
            raise ConfigError(f"{self.batch} texts per request", hint="give --batch between 1 and 10000")
        if self.zipf is not None and not 0 < self.zipf <= 5:
            raise ConfigError(f"Zipf exponent {self.zipf:g} is not within (0, 5]", hint="1.0 is common")

    def only(self, length_class: str) -> Workload:
        """The same with one class alone."""
        return replace(self, mix=((length_class, 1.0),), own=())

    def describe(self) -> dict[str, Any]:
        """For the record: everything but the texts."""
        return {
            "mix": "own texts" if self.own else dict(self.mix),
            "own_texts": len(self.own),
            "batch": self.batch,
            "zipf": self.zipf,
            "seed": self.seed,
        }

    def items(self, chars: Sequence[tuple[int, ...]] | None = None) -> Iterator[Item]:
        """Endless items, the same for the same seed. With `chars`, their lengths follow a trace, once."""
        if chars is not None:
            return _replayed(chars, self.seed)
        singles = self._own_texts() if self.own else self._drawn()
        return (_batch(islice(singles, self.batch)) for _ in iter(int, 1))

    def _own_texts(self) -> Iterator[tuple[str, str]]:
        if self.zipf is None:
            return ((text, class_of(len(text))) for text in cycle(self.own))
        ranks = zipf_ranks(len(self.own), self.zipf, self.seed)
        return ((self.own[r], class_of(len(self.own[r]))) for r in ranks)

    def _drawn(self) -> Iterator[tuple[str, str]]:
        source = random.Random(f"{self.seed}/mix")
        names, odds = [n for n, _ in self.mix], [w for _, w in self.mix]
        streams = {name: self._stream(name) for name in names}
        while True:  # the texts of one request are of one class: it is the request that has a latency
            name = source.choices(names, odds)[0]
            for _ in range(self.batch):
                yield next(streams[name]), name

    def _stream(self, name: str) -> Iterator[str]:
        if self.zipf is None:
            return texts(name, self.seed)
        known = list(islice(texts(name, self.seed), POPULATION))
        return (known[r] for r in zipf_ranks(POPULATION, self.zipf, self.seed))


def parse_mix(text: str) -> tuple[tuple[str, float], ...]:
    """Weights written `short=1,medium=2` or just `long`. Raises `ConfigError`."""
    pairs: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            value = float(weight or 1)
        except ValueError:
            value = -1.0
        if name not in CLASSES or name in pairs or not 0 <= value < float("inf"):
            raise ConfigError(f"{text!r} is not a mix of {', '.join(CLASSES)}", hint="write short=1,medium=1,long=1")
        pairs[name] = value
    if not sum(pairs.values()):
        raise ConfigError(f"{text!r}: all weights are zero")
    return tuple((name, value) for name, value in pairs.items() if value)


def read_texts(path: Path) -> tuple[str, ...]:
    """Own texts: one per line, or JSON lines that are strings or hold `text` or `input`. Raises `ConfigError`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    if path.suffix in (".jsonl", ".ndjson", ".json"):
        found = tuple(chain.from_iterable(_json_texts(line, f"{path}:{n}") for n, line in enumerate(lines, start=1)))
    else:
        found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise ConfigError("holds no texts", where=str(path))
    return found


def class_of(length: int) -> str:
    """The class whose length is nearest in ratio: up to 8 characters short, up to 31 medium, else long."""
    return "short" if length <= 8 else "medium" if length <= 31 else "long"


def zipf_ranks(population: int, exponent: float, seed: int) -> Iterator[int]:
    """Endless ranks 0…population−1 with P(r) ∝ (r+1)^−exponent."""
    source = random.Random(f"{seed}/zipf")
    cumulative = list(accumulate((rank + 1) ** -exponent for rank in range(population)))
    while True:
        yield min(population - 1, bisect_left(cumulative, source.random() * cumulative[-1]))


def _batch(pairs: Iterator[tuple[str, str]]) -> Item:
    found = list(pairs)
    return Item(tuple(text for text, _ in found), max((name for _, name in found), key=lambda n: CLASSES[n]))


def _replayed(chars: Sequence[tuple[int, ...]], seed: int) -> Iterator[Item]:
    """Texts of these lengths. Each begins with a short one that never comes again: a cache must not answer."""
    heads, fillers = texts("short", seed), texts("long", seed)
    for lengths in chars:
        yield Item(tuple(_of_length(next(heads), fillers, n) for n in lengths), class_of(max(lengths)))


def _of_length(head: str, fillers: Iterator[str], length: int) -> str:
    text = head
    while len(text) < length:
        text += next(fillers)
    return text[:length]


def _json_texts(line: str, where: str) -> list[str]:
    if not line.strip():
        return []
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"not JSON: {error}", where=where) from error
    value = row.get("text", row.get("input")) if isinstance(row, dict) else row
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(text, str) and text for text in values):
        raise ConfigError("holds no text", where=where, hint='write {"text": "…"} or a JSON string')
    return values
