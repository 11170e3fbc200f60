"""The memory of API keys: short, positive only, and gone when keys are managed."""

from __future__ import annotations

from typing import Any

import pytest

from slo.clock import ManualClock
from slo.serve.door.keys import MAX_KEYS, REMEMBER_S, RememberedKeys


class HostKeys:
    """The host's cache, counting how often it is asked."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, Any]] = {"k": ("entry", {"username": "u"})}
        self.asked = 0

    def get_with_user(self, key_hash: str) -> tuple[Any, Any]:
        self.asked += 1
        return self.known.get(key_hash, (None, None))

    def remove(self, key_hash: str) -> None:
        self.known.pop(key_hash)


@pytest.fixture
def host() -> HostKeys:
    return HostKeys()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(monotonic_s=100.0)


@pytest.fixture
def keys(host: HostKeys, clock: ManualClock) -> RememberedKeys:
    return RememberedKeys(host, clock.monotonic)


def test_a_valid_key_is_looked_up_once_a_second(keys: RememberedKeys, host: HostKeys, clock: ManualClock) -> None:
    for _ in range(50):
        assert keys.get_with_user("k") == ("entry", {"username": "u"})
    assert host.asked == 1
    clock.advance(REMEMBER_S)
    keys.get_with_user("k")
    assert host.asked == 2


def test_a_key_revoked_here_is_refused_at_once(keys: RememberedKeys) -> None:
    keys.get_with_user("k")
    keys.remove("k")
    assert keys.get_with_user("k") == (None, None)


def test_a_key_revoked_in_the_database_is_refused_within_the_second(
    keys: RememberedKeys, host: HostKeys, clock: ManualClock
) -> None:
    keys.get_with_user("k")
    host.known.clear()
    assert keys.get_with_user("k")[0] == "entry"
    clock.advance(REMEMBER_S)
    assert keys.get_with_user("k") == (None, None)


def test_an_unknown_key_is_never_remembered(keys: RememberedKeys, host: HostKeys) -> None:
    assert keys.get_with_user("new") == (None, None)
    host.known["new"] = ("entry", {})
    assert keys.get_with_user("new") == ("entry", {})


def test_the_memory_is_bounded(keys: RememberedKeys, host: HostKeys) -> None:
    for number in range(MAX_KEYS + 1):
        host.known[str(number)] = (number, {})
        keys.get_with_user(str(number))
    assert len(keys._answers) == 1
