"""
Xinference's look-up of API keys, with a memory of one second.

The host asks SQLite twice per request, on the event loop that serves everybody: two connections, 1 to 2 ms each. A key
that was valid less than a second ago is taken for valid. Whatever manages keys through this process (revoke, disable,
change permissions) ends the memory at once; a change made behind its back, in the database file, is seen within that
second. Expiry, bans, scopes and model permissions are judged by the host on every request as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

REMEMBER_S = 1.0
MAX_KEYS = 10_000


class RememberedKeys:
    """Stands before the host's `ApiKeyCache` and is used like it."""

    def __init__(self, inner: Any, now_s: Callable[[], float]) -> None:
        self._inner = inner
        self._now_s = now_s
        self._answers: dict[str, tuple[float, tuple[Any, Any]]] = {}

    def get_with_user(self, key_hash: str) -> tuple[Any, Any]:
        """The key's entry and its user; (None, None) for an unknown key, which is asked for anew each time."""
        until_s, known = self._answers.get(key_hash, (0.0, (None, None)))
        if self._now_s() < until_s:
            return known
        answer: tuple[Any, Any] = self._inner.get_with_user(key_hash)
        if None not in answer:
            if len(self._answers) >= MAX_KEYS:
                self._answers.clear()
            self._answers[key_hash] = (self._now_s() + REMEMBER_S, answer)
        return answer

    def __getattr__(self, name: str) -> Any:
        # Everything else of the host's cache may change keys.
        self._answers.clear()
        return getattr(self._inner, name)
