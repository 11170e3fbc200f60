"""
`POST /slo/api/control`: what a running server can be told, by the watch's remedies and by drills.

    {"action": "admission", "policy": "defer" | "shed" | "queue"}   what happens to requests that would be late
    {"action": "clear_cache"}                               forget all vectors
    {"action": "expect", "model": "m", "expected": true}    it is being brought up: 503 instead of 404 until it is there
    {"action": "delay", "delay_ms": 200, "for_s": 60}       answer late, for a drill; only with serve.drill: true

With Xinference's authentication on, an administrator must ask. Without it only this machine may: no request that a
proxy passed on, and none that a page in a browser sends (those carry `Origin`). Orders last until the next one or the
server's end, a delay for `MAX_DELAY_S` at most. `/slo/api/status` shows the last of them.
"""

from __future__ import annotations

import logging
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from slo.addresses import is_loopback
from slo.serve.door.admission import POLICIES
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.problem import forbidden, invalid
from slo.serve.door.request import read_json
from slo.serve.door.responses import Delay
from slo.settings_serve import ServeSection

PATH = "/slo/api/control"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"  # as the setting model.name
MAX_DELAY_MS = 2000
MAX_DELAY_S = 300
KEPT = 20
FORWARDED = frozenset({"origin", "forwarded", "x-forwarded-for", "x-real-ip"})

logger = logging.getLogger("xinference.slo")


class Control:
    """Carries out orders and remembers the last of them. One per API process."""

    def __init__(
        self, settings: ServeSection, directory: Directory, cache: Cache, delay: Delay, wall: Callable[[], float]
    ) -> None:
        self._drill = settings.drill
        self._directory = directory
        self._cache = cache
        self._delay = delay
        self._wall = wall
        self._actions: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def carry_out(self, body: bytes, *, by: str) -> dict[str, Any]:
        """Do what `body` says; the note of it. Raises `Problem` 400 or 403, and then has changed nothing."""
        order = read_json(body)
        action = order.pop("action", None)
        deeds: dict[str, Callable[[dict[str, Any]], str]] = {
            "admission": self._admission, "clear_cache": self._clear_cache, "delay": self._hold_back,
            "expect": self._expect,
        }  # fmt: skip
        if not isinstance(action, str) or action not in deeds:
            raise invalid(f"'action' must be one of {', '.join(deeds)}", param="action")
        said = deeds[action](order)
        note = {"at_s": round(self._wall(), 3), "action": action, "said": said, "by": by}
        self._actions.append(note)
        logger.warning("xinference-slo: control by %s: %s", by, said)
        return note

    def report(self) -> dict[str, Any]:
        """What is in force, and the last orders, the newest first."""
        return {
            "policy": self._directory.policy,
            "delay_ms": round(self._delay.seconds * 1000, 3),
            "drill": self._drill,
            "actions": list(reversed(self._actions)),
        }

    def _admission(self, order: Mapping[str, Any]) -> str:
        _only(order, "policy")
        policy = next((known for known in POLICIES if known == order.get("policy")), None)
        if policy is None:
            raise invalid(f"'policy' must be one of {', '.join(POLICIES)}", param="policy")
        before = self._directory.policy
        self._directory.change_policy(policy)
        return f"admission {before} → {policy}"

    def _clear_cache(self, order: Mapping[str, Any]) -> str:
        _only(order)
        return f"cache cleared: {self._cache.clear()} vectors forgotten"

    def _hold_back(self, order: Mapping[str, Any]) -> str:
        _only(order, "delay_ms", "for_s")
        if not self._drill:
            raise forbidden("answers are held back only where serve.drill is true in the configuration")
        delay_ms = _number(order, "delay_ms", MAX_DELAY_MS)
        for_s = _number(order, "for_s", MAX_DELAY_S)
        self._delay.set(delay_ms / 1000, for_s)
        return f"every answer held back for {delay_ms:g} ms, during {for_s:g} s" if delay_ms else "delay ended"

    def _expect(self, order: Mapping[str, Any]) -> str:
        _only(order, "model", "expected")
        model, expected = order.get("model"), order.get("expected")
        if not isinstance(model, str) or not re.fullmatch(NAME, model):
            raise invalid("'model' must be the name of a model", param="model")
        if not isinstance(expected, bool):
            raise invalid("'expected' must be true or false", param="expected")
        self._directory.expect(model, expected=expected)
        return f"{model} is being brought up" if expected else f"{model} was given up"


def from_this_machine(peer: str | None, headers: Mapping[str, str]) -> bool:
    """Did a program on this machine send this itself? Not so what a proxy passed on, or a page in a browser sent."""
    return peer is not None and not any(name in headers for name in FORWARDED) and is_loopback(peer)


def require_this_machine(peer: str | None, headers: Mapping[str, str]) -> None:
    """Raise `Problem` 403 unless `from_this_machine`."""
    if not from_this_machine(peer, headers):
        raise forbidden("without authentication, control is for programs on the server's own machine alone")


def _only(order: Mapping[str, Any], *known: str) -> None:
    for name in order:
        if name not in known:
            raise invalid(f"'{name}' means nothing here", param=name)


def _number(order: Mapping[str, Any], name: str, most: float) -> float:
    value = order.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise invalid(f"'{name}' must be a number", param=name)
    if not 0 <= value <= most:
        raise invalid(f"'{name}' must be from 0 to {most:g}", param=name)
    return float(value)
