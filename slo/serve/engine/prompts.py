"""
The prefixes of a model: what is put before a text ere it is embedded, as sentence-transformers does it.

They come from the model's `config_sentence_transformers.json`. The engine reads them, the front door applies them, so
that the cache and the queue know each text as it is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALWAYS = {"query": "", "document": ""}  # known to sentence-transformers in any case


@dataclass(frozen=True)
class Prompts:
    """Prefixes by name; `default` names the one that comes without being asked for."""

    texts: Mapping[str, str] = field(default_factory=lambda: dict(ALWAYS))
    default: str | None = None

    def prefix(self, prompt: str | None, name: str | None) -> str:
        """The prefix for a request: its own, else the one it names, else the default. Raises KeyError."""
        if prompt is not None:
            return prompt
        if name is not None:
            return self.texts[name]
        return "" if self.default is None else self.texts[self.default]

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"texts": dict(self.texts), "default": self.default}

    @staticmethod
    def from_json(data: Any) -> Prompts:
        """What an engine says of itself; no prefixes where it says nothing."""
        return Prompts(dict(data["texts"]), data["default"]) if isinstance(data, dict) else Prompts()
