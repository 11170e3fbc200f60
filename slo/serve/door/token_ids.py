"""
Token ids in place of texts, as clients of OpenAI send them: decoded where Xinference decodes them, refused elsewhere.

Xinference reads them as ids of OpenAI's vocabulary cl100k_base, if the package tiktoken is installed. That loads a
table of its own, perhaps from the network: when it is first needed, beside the event loop.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from slo.serve.door.problem import Problem, invalid, not_ready

VOCABULARY = "cl100k_base"
PATIENCE_S = 30.0  # for a table that does not come
ADVICE = "send text instead (OpenAIEmbeddings of LangChain: check_embedding_ctx_length=False)"

logger = logging.getLogger("xinference.slo")

Encoding = Any  # tiktoken's, of which `decode_single_token_bytes` is used
Load = Callable[[], Encoding]


class TokenIds:
    """Called with the ids of one text, gives the text. `load` gives the vocabulary; None: there is none here."""

    def __init__(self, load: Load | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._now = monotonic
        self._started_s: float | None = None
        self._encoding: Encoding = None

    def __call__(self, ids: Sequence[int]) -> str:
        """Raises `Problem`: 400 for ids that are none, or that cannot be read here; 503 while the table is loaded."""
        if self._load is None:
            raise _unreadable("this server has no vocabulary for them")
        if self._encoding is None:
            self._wait(self._load)
        try:
            text = b"".join(self._encoding.decode_single_token_bytes(token) for token in ids).decode()
        except (KeyError, ValueError, OverflowError, TypeError):
            raise _unreadable(f"these are not ids of {VOCABULARY} that make a text") from None
        if not text:
            raise _unreadable("they make an empty text")
        return text

    def _wait(self, load: Load) -> None:
        """Have the table loaded, and raise until it is there."""
        if self._started_s is None:
            self._started_s = self._now()
            threading.Thread(target=self._fetch, args=(load,), daemon=True).start()
        if self._load is not None and self._now() - self._started_s < PATIENCE_S:
            raise not_ready(f"the vocabulary {VOCABULARY} is being loaded", retry_after_s=1)
        raise _unreadable(f"the vocabulary {VOCABULARY} cannot be loaded")

    def _fetch(self, load: Load) -> None:
        try:
            self._encoding = load()
        except Exception:  # whatever a download may raise
            logger.exception("xinference-slo: the vocabulary %s for token ids cannot be loaded", VOCABULARY)
            self._load = None


def tiktoken_loader() -> Load | None:
    """How Xinference gets the vocabulary; None without tiktoken."""
    if importlib.util.find_spec("tiktoken") is None:
        return None

    def load() -> Encoding:
        return importlib.import_module("tiktoken").get_encoding(VOCABULARY)

    return load


def _unreadable(why: str) -> Problem:
    return invalid(f"'input' holds token ids: {why}; {ADVICE}", param="input", reason="token_ids")
