"""The memory of API keys: short, positive only, and gone when keys are managed, by whomever."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from slo.clock import ManualClock
from slo.serve.door.keys import MAX_KEYS, REMEMBER_S, DatabaseVersion, RememberedKeys


class HostKeys:
    """The host's cache, counting how often it is asked."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, Any]] = {"k": ("entry", {"username": "u"})}
        self.asked = 0
        self.version: int | None = 1

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
    return RememberedKeys(host, clock.monotonic, lambda: host.version)


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


def test_a_key_revoked_in_the_database_is_refused_at_once(keys: RememberedKeys, host: HostKeys) -> None:
    keys.get_with_user("k")
    host.known.clear()
    host.version = 2
    assert keys.get_with_user("k") == (None, None)


def test_where_changes_cannot_be_seen_nothing_is_remembered(keys: RememberedKeys, host: HostKeys) -> None:
    host.version = None
    for _ in range(3):
        keys.get_with_user("k")
    assert host.asked == 3


def test_what_changes_while_it_is_read_is_read_again(host: HostKeys, clock: ManualClock) -> None:
    class Changing(HostKeys):
        def get_with_user(self, key_hash: str) -> tuple[Any, Any]:
            answer = super().get_with_user(key_hash)
            self.known.clear()  # committed by somebody else just after it was read
            self.version = 2
            return answer

    changing = Changing()
    keys = RememberedKeys(changing, clock.monotonic, lambda: changing.version)
    assert keys.get_with_user("k")[0] == "entry"
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


def written(path: Path, value: int) -> None:
    """A commit by somebody else."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS t (v)")
        connection.execute("INSERT INTO t VALUES (?)", (value,))
    connection.close()


def test_every_commit_is_another_version_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    written(path, 0)
    version = DatabaseVersion(str(path))
    seen = [version()]
    for value in range(1, 4):
        assert version() == version() == seen[-1]
        written(path, value)
        seen.append(version())
    assert None not in seen
    assert len(set(seen)) == 4


def test_another_file_in_its_place_is_another_version_and_none_is_none(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    version = DatabaseVersion(str(path))
    assert version() is None
    written(path, 0)
    before = version()
    assert before is not None
    written(tmp_path / "other.db", 0)
    (tmp_path / "other.db").replace(path)
    assert version() not in (None, before)
    path.unlink()
    assert version() is None
