"""
Who calls, on the short way through a server with authentication.

Here nobody is refused. A request with an API key that Xinference would let in without any ado is let in, by the same
questions to the same objects; whatever else comes (no key, a wrong or expired one, a banned address, a model that the
key may not use, a token of a user) goes the long way, where Xinference itself refuses, counts and locks out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

# As Xinference makes them. What looks different in any way, a second space, say, is for Xinference to read.
BEARER = re.compile(rb"Bearer ((?:xf|sk)-[0-9A-Za-z]{16,128})")


class LongWay(Exception):
    """Xinference itself is to answer this request."""


@dataclass(slots=True)
class Caller:
    """Somebody with a valid key, for one request."""

    key: Any  # Xinference's `ApiKeyCacheEntry`
    user: str
    address: str
    began_s: float
    model: str = ""  # once it is known

    def permit(self, model: str) -> None:
        """Raises `LongWay` if the key may not use this model."""
        if not self.key.has_model_access(model, "embedding"):
            raise LongWay
        self.model = model


class Callers:
    """Xinference's `AdvancedAuthService`, asked whether it has anything against a request. Changes nothing but what
    the service itself changes for a good key: its count of failures ends.
    """

    def __init__(self, service: Any, now_s: Callable[[], float]) -> None:
        self._service = service
        self._now_s = now_s

    def of(self, scope: MutableMapping[str, Any]) -> Caller | None:
        """Who sent this request; None: it takes the long way."""
        began_s = self._now_s()
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        found = BEARER.fullmatch(given[0]) if len(given) == 1 else None
        client = scope.get("client")
        limiter = self._service._rate_limiter
        if found is None or not client or limiter is None or limiter.is_ip_banned(client[0]):
            return None
        key, user = self._service._cache.get_with_user(hashlib.sha256(found[1]).hexdigest())
        if key is None or not key.is_valid() or not user or user.get("must_change_password"):
            return None
        if limiter.is_key_banned(client[0], key.key_id):
            return None
        limiter.reset_key(client[0], key.key_id)
        return Caller(key, user["username"], client[0], began_s)
