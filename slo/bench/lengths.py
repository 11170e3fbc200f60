"""
Lengths of texts: fixed or drawn, in characters or tokens, alone or mixed as real workloads mix them.

`20..400:lognormal` draws between 20 and 400 characters; 95 % of what the distribution has lie between the two ends, and
what lies outside is drawn again. `tokens:128` has 128 tokens, its two special ones included: of a Chinese vocabulary a
character is one token. Other tokenizers make more or fewer of the same text.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from slo.errors import ConfigError
from slo.texts import SPECIAL_TOKENS

Shape = Literal["uniform", "lognormal"]
FEWEST = 4  # characters: shorter texts soon repeat
MOST = 100_000


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
