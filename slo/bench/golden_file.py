"""
Texts with the vectors that they must have: JSON lines `{"text": "…", "vector": [0.1, …]}`, written by `slo golden`.

A server passes when each vector has a cosine of at least 0.98 with the one in the file (see `answers`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from slo.bench.answers import LEAST_COSINE
from slo.client import EmbeddingsClient, cosine
from slo.errors import ConfigError, RunError
from slo.files import write_atomically
from slo.texts import mix

COUNT = 24
SEED = 20_240_501


@dataclass(frozen=True)
class Reference:
    """A text and its vector."""

    text: str
    vector: list[float]


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Cosines over so many texts; `unlike` are the places (from 1) of those below the least that passes."""

    texts: int
    least: float
    mean: float
    unlike: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def usual_texts(count: int = COUNT) -> list[str]:
    """Always the same texts, of all lengths."""
    return [text.value for text in islice(mix(SEED), count)]


def references(client: EmbeddingsClient, texts: Iterable[str]) -> list[Reference]:
    """What the server behind `client` gives, past its cache. Raises what a request raises."""
    return [Reference(text, client.embed(text, fresh=True).vectors[0]) for text in texts]


def likeness(first: Sequence[Reference], second: Sequence[Reference]) -> Likeness:
    """How alike the vectors of the same texts are; −1 where the dimensions differ."""
    found = [
        cosine(a.vector, b.vector) if len(a.vector) == len(b.vector) else -1.0
        for a, b in zip(first, second, strict=True)
    ]
    unlike = tuple(place for place, value in enumerate(found, start=1) if not value >= LEAST_COSINE)
    return Likeness(texts=len(found), least=min(found), mean=sum(found) / len(found), unlike=unlike)


def check_golden(client: EmbeddingsClient, path: Path) -> Likeness:
    """Ask for the vectors of the file. Raises `RunError` where one is another, and what a request raises."""
    known = read_golden(path)
    found = likeness(known, references(client, [reference.text for reference in known]))
    if found.unlike:
        error = RunError(
            f"{client.url}: {len(found.unlike)} of {found.texts} golden vectors are others (least cosine "
            f"{found.least:.4f}, first in line {found.unlike[0]} of {path})",
            hint="another model, precision or prompt? `slo golden FILE` writes a new file, if that is meant",
        )
        error.exit_code = 1  # wrong answers: the objective is missed, however fast they are
        raise error
    return found


def read_golden(path: Path) -> list[Reference]:
    """The references in `path`. Raises `ConfigError` naming the line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), hint="`slo golden FILE` writes one") from error
    found = [_reference(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise ConfigError("holds no vectors", where=str(path), hint="`slo golden FILE` writes some")
    return found


def write_golden(path: Path, found: Iterable[Reference]) -> None:
    """Write the file whole or not at all."""
    write_atomically(path, "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found))


def _reference(line: str, where: str) -> Reference:
    try:
        row = json.loads(line)
        vector = [float(value) for value in row.get("vector") or row["embedding"]]
        if not isinstance(row["text"], str) or not vector:
            raise ValueError("an empty vector, or no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"not a golden vector: {error}", where=where, hint='write {"text": "…", "vector": [0.1, …]}'
        ) from error
    return Reference(row["text"], vector)
