"""Orders to a running server: who may give them, what they do, and that they are noted."""

from __future__ import annotations

import time
from typing import Any

import pytest

from slo.serve.web.control import from_this_machine
from slo.settings_serve import ServeSection
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import KEY, Door, opened

DRILL = ServeSection(drill=True)


async def order(door: Door, data: Any, **headers: str) -> tuple[int, Any]:
    async with door.http.post(f"{door.url}/slo/api/control", json=data, headers=headers) as response:
        return response.status, await response.json()


async def control_of(door: Door) -> Any:
    return (await door.get("/slo/api/status"))[1]["control"]


async def test_admission_is_switched_for_models_seen_and_unseen_and_noted() -> None:
    async with opened(FakeFinder(m=[FakeReplica()], n=[FakeReplica()])) as door:
        await door.embed({"model": "m", "input": "a"})
        status, note = await order(door, {"action": "admission", "policy": "queue"})
        assert (status, note["said"], note["by"]) == (200, "admission defer → queue", "127.0.0.1")
        await door.embed({"model": "n", "input": "a"})
        found = await control_of(door)
        assert found["policy"] == "queue"
        assert [action["action"] for action in found["actions"]] == ["admission"]
        await order(door, {"action": "admission", "policy": "defer"})
        assert (await control_of(door))["policy"] == "defer"


async def test_a_name_that_is_announced_is_waited_for_until_it_is_given_up() -> None:
    async with opened(FakeFinder()) as door:
        seen = []
        for expected in (None, True, False):
            if expected is not None:
                assert (await order(door, {"action": "expect", "model": "m", "expected": expected}))[0] == 200
            seen.append((await door.embed({"model": "m", "input": "a"}))[0])
        assert seen == [404, 503, 404]
        for wrong in ({"model": "m\nn", "expected": True}, {"model": "m", "expected": 1}, {"model": "m"}, {}):
            assert (await order(door, {"action": "expect", **wrong}))[0] == 400


async def test_a_cleared_cache_computes_again() -> None:
    replica = FakeReplica()
    async with opened(FakeFinder(m=[replica])) as door:
        for _ in range(2):
            await door.embed({"model": "m", "input": "a"})
        assert len(replica.calls) == 1
        _, note = await order(door, {"action": "clear_cache"})
        assert note["said"] == "cache cleared: 1 vectors forgotten"
        await door.embed({"model": "m", "input": "a"})
        assert len(replica.calls) == 2
        assert (await door.get("/slo/api/status"))[1]["cache"]["entries"] == 1


async def test_a_drill_holds_answers_back_and_the_window_sees_it() -> None:
    async with opened(FakeFinder(m=[FakeReplica()]), DRILL) as door:
        await door.embed({"model": "m", "input": "warm"})
        assert (await order(door, {"action": "delay", "delay_ms": 1000, "for_s": 60}))[0] == 200
        assert (await control_of(door))["delay_ms"] == 1000
        before = time.monotonic()
        await door.embed({"model": "m", "input": "a"})
        assert time.monotonic() - before >= 1
        _, window = await door.get("/slo/api/window?seconds=60")
        assert window["total"] == 2 and window["good"] < 2
        await order(door, {"action": "delay", "delay_ms": 0, "for_s": 0})
        before = time.monotonic()
        await door.embed({"model": "m", "input": "b"})
        assert time.monotonic() - before < 1


async def test_a_delay_ends_by_itself() -> None:
    async with opened(FakeFinder(m=[FakeReplica()]), DRILL) as door:
        await order(door, {"action": "delay", "delay_ms": 2000, "for_s": 0.01})
        time.sleep(0.02)
        assert (await control_of(door))["delay_ms"] == 0


async def test_without_permission_in_the_configuration_nothing_is_held_back() -> None:
    async with opened(FakeFinder()) as door:
        status, body = await order(door, {"action": "delay", "delay_ms": 1, "for_s": 1})
        assert (status, "serve.drill" in body["error"]["message"]) == (403, True)
        assert (await control_of(door))["actions"] == []


@pytest.mark.parametrize(
    "data",
    [
        None, [], "x", {}, {"action": "reboot"}, {"action": []}, {"action": "admission"},
        {"action": "admission", "policy": "none"}, {"action": "clear_cache", "model": "m"},
        {"action": "delay", "delay_ms": 2001, "for_s": 1}, {"action": "delay", "delay_ms": 1, "for_s": 301},
        {"action": "delay", "delay_ms": -1, "for_s": 1}, {"action": "delay", "delay_ms": True, "for_s": 1},
        {"action": "delay", "for_s": 1}, {"action": "admission", "policy": "queue", "x": "y" * 5000},
    ],
    ids=str,
)  # fmt: skip
async def test_nonsense_is_refused_and_changes_nothing(data: Any) -> None:
    async with opened(FakeFinder(), DRILL) as door:
        status, _ = await order(door, data)
        assert 400 <= status < 500
        found = await control_of(door)
        assert (found["policy"], found["delay_ms"], found["actions"]) == ("defer", 0, [])


@pytest.mark.parametrize("header", ["Origin", "X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_without_authentication_no_page_and_no_proxy_gives_orders(header: str) -> None:
    async with opened(FakeFinder()) as door:
        assert (await order(door, {"action": "clear_cache"}, **{header: "203.0.113.9"}))[0] == 403


async def test_with_authentication_an_administrator_is_asked_for() -> None:
    async with opened(FakeFinder(), auth=True) as door:
        assert (await order(door, {"action": "clear_cache"}))[0] == 401
        assert (await order(door, {"action": "clear_cache"}, Authorization=f"Bearer {KEY}"))[0] == 200


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("192.168.1.2", False), ("::ffff:10.0.0.1", False), ("203.0.113.1", False), ("testclient", False),
        (None, False),
    ],
)  # fmt: skip
def test_this_machine_is_loopback_and_nothing_else(peer: str | None, allowed: bool) -> None:
    assert from_this_machine(peer, {}) is allowed
