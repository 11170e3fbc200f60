"""Whom the short way lets in, Xinference's own service lets in: the real one, on a real database, in any state."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.security import SecurityScopes
from fastapi.security.utils import get_authorization_scheme_param
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from xinference.api.oauth2.advanced.auth_service import AdvancedAuthService

from slo.clock import ManualClock
from slo.serve.door.callers import (
    MAX_KEYS,
    REMEMBER_S,
    Audit,
    Caller,
    Callers,
    DatabaseVersion,
    LongWay,
    RememberedKeys,
)


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


ADDRESS = "203.0.113.7"


class World:
    """One service with one user and one key; `reset` brings both back."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "auth.db")
        self.service = AdvancedAuthService(path, "jwt-secret", "encryption-key", api_key_cache_enabled=False)
        self.user = self.service.db.create_user("u", "long-password-1", permissions=["models:read"])
        self.callers = Callers(self.service, lambda: 0.0)

    def key(self, permissions: list[dict[str, Any]] | None, expires_at: str | None) -> tuple[int, str]:
        made = self.service.create_api_key_for_user(
            self.user,
            f"k{datetime.now(timezone.utc).timestamp()}",
            model_permissions=permissions,
            expires_at=expires_at,
        )
        return made["id"], made["key"]

    def host_says(self, scope: dict[str, Any]) -> dict[str, Any] | None:
        """The user whom Xinference's dependency returns, None if it refuses."""
        request = Request(scope)
        scheme, token = get_authorization_scheme_param(request.headers.get("Authorization"))
        try:
            user: dict[str, Any] = asyncio.run(
                self.service(request, SecurityScopes(["models:read"]), token if scheme.lower() == "bearer" else None)
            )
        except HTTPException:
            return None
        return user


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield World(tmp_path_factory.mktemp("auth"))


def scope_with(*authorization: bytes, client: tuple[str, int] | None = (ADDRESS, 1)) -> dict[str, Any]:
    headers = [(b"host", b"x"), *((b"authorization", value) for value in authorization)]
    return {"type": "http", "method": "POST", "path": "/v1/embeddings", "query_string": b"", "server": ("x", 80),
            "scheme": "http", "headers": headers, "client": client}  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nobody_comes_in_whom_the_host_would_refuse(world: World, data: st.DataObject) -> None:
    draw = data.draw
    past = (datetime.now(timezone.utc) - timedelta(days=1)).replace(tzinfo=None).isoformat()
    future = (datetime.now(timezone.utc) + timedelta(days=1)).replace(tzinfo=None).isoformat()
    expires = draw(st.sampled_from([None, None, None, past, future]))
    granted = draw(st.sampled_from([None, "m", "other", "embedding", "LLM"]))
    kind = "model_type" if granted in ("embedding", "LLM") else "model_id"
    permissions = None if granted is None else [{"permission_type": kind, "permission_value": granted}]
    key_id, key = world.key(permissions, expires)
    limiter, database = world.service._rate_limiter, world.service.db
    database.update_api_key(key_id, enabled=draw(st.sampled_from([1, 1, 1, 1, 1, 0])))
    database.update_user(world.user, enabled=draw(st.sampled_from([1, 1, 1, 1, 1, 0])))
    database.update_user(world.user, must_change_password=draw(st.sampled_from([0, 0, 0, 0, 1])))
    limiter.unban_all_ips()
    for _ in range(draw(st.sampled_from([0, 4, 10]))):
        limiter.record_invalid_key(ADDRESS)
    for _ in range(draw(st.sampled_from([0, 4, 10]))):
        limiter.record_key_failure(ADDRESS, key_id)
    raw = key.encode()
    value = draw(
        st.sampled_from([b"Bearer " + raw] * 40 + [
            b"Bearer  " + raw, b"bearer " + raw, b"Bearer " + raw + b" ", b"Basic " + raw, raw, b"Bearer", b"",
            b"Bearer " + raw[:-1], b"Bearer " + raw + b"x", b"Bearer " + raw.swapcase(), b"Bearer\t" + raw,
        ])
    )  # fmt: skip
    scope = scope_with(value)
    user = world.host_says(scope)  # first: a good key ends its own count of failures
    caller = world.callers.of(scope)
    if caller is None:
        return
    assert user is not None
    assert user["username"] == caller.user
    entry = world.service.validate_api_key(key)
    assert entry is not None
    if entry.has_model_access("m", "embedding"):
        caller.permit("m")
    else:
        with pytest.raises(LongWay):
            caller.permit("m")


def test_a_good_key_comes_in(world: World) -> None:
    world.service.db.update_user(world.user, enabled=1)
    world.service.db.update_user(world.user, must_change_password=0)
    world.service._rate_limiter.unban_all_ips()
    key_id, key = world.key(None, None)
    world.service._rate_limiter.record_key_failure(ADDRESS, key_id)
    caller = world.callers.of(scope_with(b"Bearer " + key.encode()))
    assert caller is not None
    assert (caller.user, caller.address) == ("u", ADDRESS)
    assert (ADDRESS, key_id) not in world.service._rate_limiter._key_records  # a good key ends its count, here as there


def test_two_headers_or_an_unknown_sender_go_the_long_way(world: World) -> None:
    key = world.key(None, None)[1].encode()
    assert world.callers.of(scope_with(b"Bearer " + key, b"Bearer " + key)) is None
    assert world.callers.of(scope_with()) is None
    assert world.callers.of(scope_with(b"Bearer " + key, client=None)) is None


KEY = SimpleNamespace(name="key", key_prefix="xf-abcd")


class Kept(logging.Handler):
    """What is written, record by record."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


class Host:
    """What Xinference's API object is told of errors."""

    _uid_to_model_name = {"m": "model"}  # noqa: RUF012 - as there

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def _record_audit(self, request: Any, model: str, kind: str, status: str, latency_s: float) -> None:
        self.told.append((model, kind, status, request.state.audit_status_code, latency_s))

    def _record_admin_audit(self, request: Any, status: str, latency_s: float, **more: Any) -> None:
        self.told.append((status, more, request.client.host))


def audit_of(host: Host, now: list[float]) -> tuple[Audit, Kept]:
    kept, logger = Kept(), logging.Logger("audit-of-a-test")
    logger.addHandler(kept)
    return Audit(host, lambda: logger, "node", lambda: "here:1", lambda: now[0], requests=None, seconds=None), kept


def caller(model: str, user: str = "u") -> Caller:
    return Caller(KEY, user, "192.0.2.1", 10.0, model)


async def test_requests_of_one_turn_are_lines_of_one_record() -> None:
    audit, kept = audit_of(Host(), [10.0125])
    for number in range(3):
        audit.note(caller("m"), 200, f"id{number}")
    assert kept.written == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [record] = kept.written
    events = [json.loads(line) for line in record.split("\n")]
    assert [event["request_id"] for event in events] == ["id0", "id1", "id2"]
    assert events[0]["latency_ms"] == 12.5
    assert (events[0]["model_name"], events[0]["node"], events[0]["address"]) == ("model", "node", "here:1")
    audit.note(caller("m"), 200, "later")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(kept.written) == 2


async def test_no_name_and_no_identity_makes_a_line_of_its_own() -> None:
    audit, kept = audit_of(Host(), [10.0])
    audit.note(caller("m", user='a"\n{}\u2028\x7f与'), 200, 'x"\r\n{"@timestamp": 1}')
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [record] = kept.written
    assert len(record.splitlines()) == 1
    assert "\u2028" not in record and "\x7f" not in record


async def test_errors_are_the_hosts_to_note() -> None:
    host = Host()
    audit, kept = audit_of(host, [10.5])
    audit.note(caller("nobody"), 404, "a")
    audit.note(caller("m"), 429, "b")
    audit.note(caller(""), 400, "c")
    await asyncio.sleep(0)
    assert kept.written == []
    assert host.told == [
        ("nobody", "embedding", "model_not_found", 404, 0.5),
        ("m", "embedding", "error", 429, 0.5),
        ("error", {"status_code": 400, "category": "inference"}, "192.0.2.1"),
    ]
