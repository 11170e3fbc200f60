"""References to model processes: a real actor pool, and a fake supervisor that points into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import xoscar as xo
from xoscar.backends.message import _AsCauseBase

from slo.serve.door import replicas as module
from slo.serve.door.batcher import ReplicaLost
from slo.serve.door.problem import Problem, Unanswered
from slo.serve.door.replicas import ActorFinder, ActorReplica
from slo.serve.engine.model_process import Leaving


class Loading(Exception):
    """What the host raises while a model is loaded."""


class OurModel(xo.StatelessActor):  # type: ignore[misc]
    async def embed_batch(self, texts: list[str]) -> tuple[bytes, list[int], list[bool], dict[str, float]]:
        if texts == ["bad"]:
            raise ValueError("bad text")
        if texts == ["missing file"]:
            raise FileNotFoundError("model.bin")
        if texts == ["leaving"]:
            raise Leaving("the model is being stopped")
        if texts == ["cancelled"]:
            raise asyncio.CancelledError
        if texts == ["slow"]:
            await asyncio.sleep(5)
        return b"1234" * len(texts), [3] * len(texts), [False] * len(texts), {"infer": 1.0}

    async def engine_status(self) -> dict[str, Any]:
        return {"fingerprint": "w1"}


class HungModel(OurModel):
    async def engine_status(self) -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}


class Failing:
    """A reference on which every call fails."""

    uid, address = b"m-rep0", "10.255.0.1:1"

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def embed_batch(self, _: list[str]) -> None:
        raise self._error


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
        await xo.create_actor(HungModel, address=pool.external_address, uid="hung-rep0")
        yield pool.external_address


def row(uid: str, address: str | None, status: str = "READY") -> dict[str, Any]:
    return {"replica_model_uid": uid, "model_address": address, "status": status}


def finder(*rows: dict[str, Any], error: Exception | None = None, home: str = "") -> ActorFinder:
    async def supervisor() -> Supervisor:
        found = Supervisor(list(rows), error)
        found.home = home
        return found

    return ActorFinder(supervisor, loading=Loading)


async def test_a_ready_replica_is_found_and_called_directly(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    assert replica.identity == ("m-rep0", address)
    assert replica.status == {"fingerprint": "w1"}
    assert (await replica.embed(["a", "b"]))[:2] == (b"12341234", [3, 3])


async def test_what_the_engine_raises_comes_through(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    with pytest.raises(ValueError, match="bad text"):
        await replica.embed(["bad"])


async def test_a_call_on_a_silent_engine_ends_when_the_replica_is_given_up(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    calls = [asyncio.create_task(replica.embed(["slow"])) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert not any(call.done() for call in calls)
    replica.give_up("no sign of life")
    for call in calls:
        with pytest.raises(ReplicaLost, match="no sign of life") as caught:
            await call
        assert not caught.value.leaving


async def test_an_error_of_the_system_inside_the_engine_is_no_lost_replica() -> None:
    class RaisedThere(_AsCauseBase, FileNotFoundError):  # type: ignore[misc]
        """As xoscar marks what the other process raised."""

    with pytest.raises(FileNotFoundError):
        await ActorReplica(("m-rep0", "10.255.0.1:1"), Failing(RaisedThere()), {}, "").embed(["a"])


@pytest.mark.parametrize("error", [OSError(113, "No route to host"), TimeoutError(110, "timed out"), EOFError()])
async def test_a_host_that_is_dead_is_a_lost_replica(error: Exception) -> None:
    with pytest.raises(ReplicaLost):
        await ActorReplica(("m-rep0", "10.255.0.1:1"), Failing(error), {}, "").embed(["a"])


async def test_an_engine_that_is_being_stopped_is_left_in_good_order(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    with pytest.raises(ReplicaLost) as caught:
        await replica.embed(["leaving"])
    assert caught.value.leaving


async def test_a_pass_that_the_dying_engine_cancels_is_lost_and_not_ours_to_end(address: str) -> None:
    (replica,) = await finder(row("m-rep0", address)).find("m")
    with pytest.raises(ReplicaLost):
        await replica.embed(["cancelled"])


async def test_a_replica_that_does_not_tell_its_status_is_known_as_silent(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STATUS_TIMEOUT_S", 0.2)
    found = finder(row("m-rep0", address), row("hung-rep0", address))
    assert [replica.uid for replica in await found.find("m")] == ["m-rep0"]
    assert [replica.uid for replica in found.silent("m")] == ["hung-rep0"]


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
        await ActorFinder(supervisor, loading=Loading).find("m")
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
