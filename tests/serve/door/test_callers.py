"""Whom the short way lets in, Xinference's own service lets in: the real one, on a real database, in any state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from fastapi.security import SecurityScopes
from fastapi.security.utils import get_authorization_scheme_param
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from xinference.api.oauth2.advanced.auth_service import AdvancedAuthService

from slo.serve.door.callers import Callers, LongWay

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
