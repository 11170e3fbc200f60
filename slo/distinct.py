"""
Distinct texts must have distinct vectors: a server that gives all of them one vector answers fast, and wrongly.

Compared are vectors of texts that no tokenizer takes for one: what differs only in case, width, accents, blanks or
punctuation, or far behind the beginning, where models stop reading, may rightly have one vector.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Sequence

READ = 256  # characters that every model reads


class Distinct:
    """Remembers which text had which vector."""

    def __init__(self) -> None:
        self._texts: dict[int, int] = {}  # by the hash of the vector

    def is_taken(self, text: str | Sequence[int], vector: Hashable) -> bool:
        """Did another text have this very vector? If not, it is this text's from now on."""
        mine = hash(_normal(text) if isinstance(text, str) else tuple(text[:READ]))
        return self._texts.setdefault(hash(vector), mine) != mine


def _normal(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text[: 2 * READ]).casefold()
    return "".join(character for character in plain if character.isalnum())[:READ]
