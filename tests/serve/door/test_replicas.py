"""References to model processes: a real actor pool, and a fake supervisor that points into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import xoscar as xo

from slo.serve.door.batcher import ReplicaLost
from slo.serve.door.problem import Problem, Unanswered
from slo.serve.door.replicas import ActorFinder


class Loading(Exception):
    """What the host raises while a model is loaded."""


class OurModel(xo.StatelessActor):  # type: ignore[misc]
    async def embed_batch(self, texts: list[str]) -> tuple[bytes, list[int], list[bool], dict[str, float]]:
        if texts == ["bad"]:
            raise ValueError("bad text")
        if texts == ["slow"]:
            await asyncio.sleep(5)
        return b"1234" * len(texts), [3] * len(texts), [False] * len(texts), {"infer": 1.0}

    async def engine_status(self) -> dict[str, Any]:
        return {"fingerprint": "w1"}


class OtherModel(xo.StatelessActor):  # type: ignore[misc]
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Supervisor:
    """Answers as Xinference's does."""

    def __init__(self, rows: list[dict[str, Any]], error: Exception | None = None) -> None:
        self.rows, self.error = rows, error
        self.home = ""

    async def get_replica_statuses(self, _: str) -> list[dict[str, Any]]:
        return self.rows

    async def get_model(self, uid: str) -> Any:
        if self.error is not None:
            raise self.error
        return await xo.actor_ref(self.home, f"{uid}-rep0")

    async def list_models(self) -> dict[str, dict[str, str]]:
        return {"e": {"model_type": "embedding"}, "l": {"model_type": "LLM"}}


@pytest.fixture
async def address() -> AsyncIterator[str]:
    pool = await xo.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        await xo.create_actor(OurModel, address=pool.external_address, uid="m-rep0")
        await xo.create_actor(OtherModel, address=pool.external_address, uid="other-rep0")
        yield pool.external_address


def row(uid: str, address: str | None, status: str = "READY") -> dict[str, Any]:
    return {"replica_model_uid": uid, "model_address": address, "status": status}


def finder(
    *rows: dict[str, Any], error: Exception | None = None, timeout_s: float = 5.0, home: str = ""
) -> ActorFinder:
    async def supervisor() -> Supervisor:
        found = Supervisor(list(rows), error)
        found.home = home
        return found

    return ActorFinder(supervisor, timeout_s, loading=Loading)


async def test_a_ready_replica_is_found_and_called_directly(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    assert replica.identity == ("m-rep0", address)
    assert replica.status == {"fingerprint": "w1"}
    assert (await replica.embed(["a", "b"]))[:2] == (b"12341234", [3, 3])


async def test_what_the_engine_raises_comes_through(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    with pytest.raises(ValueError, match="bad text"):
        await replica.embed(["bad"])


async def test_a_silent_engine_is_a_lost_replica(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address), timeout_s=0.05).find("m")
    with pytest.raises(ReplicaLost, match=r"no answer within 0\.05 s"):
        await replica.embed(["slow"])


async def test_a_model_of_another_engine_has_no_replicas_for_us(address: str) -> None:
    assert await finder(row("other-rep0", address)).find("other") == []


async def test_a_dead_replica_does_not_hide_a_live_one(address: str) -> None:
    found = await finder(row("m-rep0", address), row("m-rep1", "127.0.0.1:1")).find("m")
    assert [replica.uid for replica in found] == ["m-rep0"]


async def test_a_replica_that_is_gone_is_said_to_be_lost() -> None:
    pool = await xo.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        reference = await xo.create_actor(OurModel, address=pool.external_address, uid="m-rep0")
        (replica,) = await finder(row("m-rep0", pool.external_address)).find("m")
        await xo.destroy_actor(reference)
        with pytest.raises(ReplicaLost):
            await replica.embed(["a"])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("unknown"), 404),
        (Loading("loading"), 503),
        (RuntimeError("stopping"), 503),
        (ConnectionError(), 503),
    ],
    ids=["unknown", "loading", "stopping", "unreachable"],
)
async def test_why_there_is_no_replica_is_told_apart(error: Exception, status: int) -> None:
    with pytest.raises(Problem) as caught:
        await finder(row("m-rep0", None, "LOADING"), error=error).find("m")
    assert caught.value.status == status


@pytest.mark.parametrize(
    "error", [xo.ServerClosed(), ConnectionRefusedError(), asyncio.TimeoutError(), RuntimeError("no supervisor")]
)
async def test_a_supervisor_that_cannot_be_asked_has_not_said_that_there_is_no_replica(error: Exception) -> None:
    async def supervisor() -> Supervisor:
        raise error

    with pytest.raises(Unanswered) as caught:
        await ActorFinder(supervisor, 5.0, loading=Loading).find("m")
    assert caught.value.status == 503


async def test_a_supervisor_that_has_lost_sight_of_an_address_does_not_make_a_model_anothers(address: str) -> None:
    with pytest.raises(Unanswered):
        await finder(row("m-rep0", None), home=address).find("m")
    assert await finder(row("other-rep0", None), home=address).find("other") == []


async def test_only_embedding_models_are_listed() -> None:
    assert await finder().models() == ["e"]


async def test_the_hosts_word_for_each_replica_is_kept_and_forgotten_with_the_model(address: str) -> None:
    rows = [row("m-rep0", address), row("m-rep1", None, "LOADING")]
    found = finder(*rows)
    assert found.states("m") == {}
    await found.find("m")
    assert found.states("m") == {"m-rep0": "READY", "m-rep1": "LOADING"}
    rows_gone = finder(error=ValueError("no such model"))
    with pytest.raises(Problem):
        await rows_gone.find("m")
    assert rows_gone.states("m") == {}
