"""The queue with its replicas: no text mixed up, and every future ends."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.serve.door.batcher import Batcher, Embedded, Replica, ReplicaLost
from slo.serve.door.cache import Vector
from slo.serve.door.cost import PassCost, TokenEstimate
from slo.serve.door.planner import Planner
from slo.serve.door.problem import Problem
from slo.serve.door.work import PassTiming, Ticket
from tests.serve.fakes import Behaviour, FakeReplica, vector_of


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.computed_texts: list[str] = []
        self.lost_replicas: list[Replica] = []

    def computed(self, replica: Replica, text: str, vector: Vector) -> None:
        self.computed_texts.append(text)

    def passed(self, texts: int, tokens: int, timing: PassTiming) -> None:
        pass

    def lost(self, replica: Replica) -> None:
        self.lost_replicas.append(replica)


def batcher(*replicas: FakeReplica, max_tokens: int = 160) -> tuple[Batcher, Notes]:
    notes = Notes()
    plan = Planner(PassCost(), max_tokens=max_tokens, max_items=64, max_wait_s=0.002, in_flight=2, deadline_s=0.15)
    made = Batcher(plan, TokenEstimate(), notes, time.perf_counter)
    made.update(replicas)
    return made, notes


def submit(queue: Batcher, texts: list[str], tokens: int = 20, online: bool = True) -> Ticket:
    return queue.submit(texts, [tokens] * len(texts), online=online)


async def outcome(ticket: Ticket) -> Exception | None:
    """The error in which a ticket ends; None for success. Checks every vector."""
    try:
        await asyncio.wait_for(asyncio.shield(ticket.future), 5)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
        return error
    for job in ticket.jobs:
        assert job.vector is not None
        assert job.vector.packed == vector_of(job.text).tobytes()
    return None


async def test_texts_that_arrive_together_share_a_pass() -> None:
    replica = FakeReplica()
    queue, _ = batcher(replica)
    tickets = [submit(queue, [f"t{i}"]) for i in range(3)]
    assert [await outcome(ticket) for ticket in tickets] == [None] * 3
    assert replica.calls == [["t0", "t1", "t2"]]


async def test_identical_texts_in_flight_are_computed_once() -> None:
    replica = FakeReplica(behave=lambda *_: 0.01)
    queue, notes = batcher(replica)
    first = submit(queue, ["a", "b", "a"])
    await asyncio.sleep(0.002)
    second = submit(queue, ["b", "a"])
    assert [await outcome(first), await outcome(second)] == [None, None]
    assert replica.calls == [["a", "b"]]
    assert notes.computed_texts == ["a", "b"]


async def test_a_big_request_is_cut_into_passes_and_spread_over_replicas() -> None:
    replicas = [FakeReplica(f"rep{i}", behave=lambda *_: 0.01) for i in range(2)]
    queue, _ = batcher(*replicas)
    texts = [f"t{i}" for i in range(40)]
    assert await outcome(submit(queue, texts, online=False)) is None
    assert all(len(replica.calls) > 1 for replica in replicas)
    assert sorted(text for replica in replicas for call in replica.calls for text in call) == sorted(texts)


async def test_an_engine_that_raises_on_its_second_call_fails_that_pass_alone() -> None:
    broken: Behaviour = lambda call, _: RuntimeError("kaputt") if call in (1, 2, 3) else 0.0  # noqa: E731
    queue, _ = batcher(FakeReplica(behave=broken))
    results = [await outcome(submit(queue, [name, name + "2"])) for name in "abc"]
    assert results[0] is None
    assert isinstance(results[1], Problem)
    assert results[1].status == 500
    assert "kaputt" in results[1].message
    assert results[2] is None


async def test_one_text_that_the_engine_cannot_take_does_not_harm_its_neighbours() -> None:
    poison: Behaviour = lambda _, texts: ValueError("poison") if "bad" in texts else 0.0  # noqa: E731
    queue, _ = batcher(FakeReplica(behave=poison))
    tickets = {name: submit(queue, [name], tokens=5) for name in ("a", "b", "bad", "c", "d", "e", "f")}
    results = {name: await outcome(ticket) for name, ticket in tickets.items()}
    assert {name for name, error in results.items() if error is not None} == {"bad"}


async def test_an_engine_that_fails_on_everything_is_not_asked_for_every_text() -> None:
    replica = FakeReplica(behave=lambda *_: RuntimeError("dead"))
    queue, _ = batcher(replica)
    tickets = [submit(queue, [f"t{i}"], tokens=2) for i in range(32)]
    assert all([isinstance(await outcome(ticket), Problem) for ticket in tickets])
    assert len(replica.calls) <= 6


async def test_a_lost_replica_is_replaced_once() -> None:
    dead, fresh = FakeReplica("old", behave=lambda *_: ReplicaLost("gone")), FakeReplica("new")
    queue, notes = batcher(dead)
    ticket = submit(queue, ["a"])
    await asyncio.sleep(0.01)
    assert notes.lost_replicas == [dead]
    assert not ticket.future.done()
    queue.update([fresh])
    assert await outcome(ticket) is None


async def test_a_second_loss_ends_in_a_503() -> None:
    queue, _ = batcher(*(FakeReplica(f"rep{i}", behave=lambda *_: ReplicaLost("gone")) for i in range(3)))
    error = await outcome(submit(queue, ["a"]))
    assert isinstance(error, Problem)
    assert (error.status, error.headers["retry-after"]) == (503, "5")


async def test_without_any_replica_everything_that_waits_ends_in_a_503() -> None:
    queue, _ = batcher(FakeReplica(behave=lambda *_: ReplicaLost("gone")))
    tickets = [submit(queue, [f"t{i}"], tokens=100) for i in range(5)]
    await asyncio.sleep(0.01)
    queue.update([])
    errors = [await outcome(ticket) for ticket in tickets]
    assert {error.status for error in errors if isinstance(error, Problem)} == {503}
    assert len(errors) == 5
    with pytest.raises(Problem):
        submit(queue, ["late"])


async def test_a_text_that_nobody_waits_for_is_not_computed() -> None:
    replica = FakeReplica(behave=lambda *_: 0.02)
    queue, _ = batcher(replica)
    first = submit(queue, ["first"], tokens=150)
    await asyncio.sleep(0.001)
    gone, shared, kept = submit(queue, ["gone", "both"]), submit(queue, ["both"]), submit(queue, ["kept"])
    queue.leave(gone)
    assert [await outcome(each) for each in (first, shared, kept)] == [None] * 3
    assert replica.calls == [["first"], ["both", "kept"]]
    assert gone.future.cancelled()


@pytest.mark.parametrize("answer", [(b"", [1], [False], {}), (b"123", [1], [False], {}), (b"1234", [], [], {})])
async def test_an_answer_that_does_not_fit_is_an_engine_fault(
    answer: tuple[bytes, list[int], list[bool], dict[str, float]],
) -> None:
    class Odd(FakeReplica):
        async def embed(self, texts: list[str]) -> Embedded:
            return answer

    queue, _ = batcher(Odd())
    error = await outcome(submit(queue, ["a"]))
    assert isinstance(error, Problem)
    assert error.reason == "engine_fault"


async def test_a_vector_that_is_not_a_number_fails_its_text_alone() -> None:
    class Odd(FakeReplica):
        async def embed(self, texts: list[str]) -> Embedded:
            packed, tokens, truncated, stages_ms = await super().embed(texts)
            return b"\x00\x00\xc0\x7f" + packed[4:], tokens, truncated, stages_ms

    queue, notes = batcher(Odd())
    first, second = submit(queue, ["a"]), submit(queue, ["b"])
    assert isinstance(await outcome(first), Problem)
    assert await outcome(second) is None
    assert notes.computed_texts == ["b"]


async def test_shutdown_ends_everything() -> None:
    queue, _ = batcher(FakeReplica(behave=lambda *_: 60.0))
    tickets = [submit(queue, [f"t{i}"], tokens=100) for i in range(6)]
    await asyncio.sleep(0.01)
    await queue.close()
    errors = [await outcome(ticket) for ticket in tickets]
    assert all(isinstance(error, Problem) and error.status == 503 for error in errors)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_whatever_happens_every_ticket_ends_and_no_text_gets_anothers_vector(seed: int) -> None:
    asyncio.run(_chaos(seed))


async def _chaos(seed: int) -> None:
    rng = random.Random(seed)

    def behave(_: int, __: list[str]) -> float | Exception:
        roll = rng.random()
        if roll < 0.05:
            return ReplicaLost("gone")
        return RuntimeError("kaputt") if roll < 0.15 else rng.random() * 0.003

    queue, notes = batcher(*(FakeReplica(f"rep{i}", behave=behave) for i in range(2)))
    tickets: list[Ticket] = []
    for index in range(60):
        if not queue.replicas or rng.random() < 0.1:
            queue.update([FakeReplica(f"new{index}", behave=behave)])
        texts = [f"t{rng.randint(0, 30)}" for _ in range(rng.randint(1, 6))]
        tickets.append(submit(queue, texts, tokens=rng.randint(3, 100), online=rng.random() < 0.7))
        if rng.random() < 0.15:
            queue.leave(rng.choice(tickets))
        await asyncio.sleep(rng.random() * 0.002)
    queue.update([FakeReplica("last")])
    for ticket in tickets:
        if not ticket.future.cancelled():
            error = await outcome(ticket)
            assert error is None or isinstance(error, Problem)
    assert queue.planner.online_tokens == queue.planner.batch_tokens == 0
    await queue.close()
    assert set(notes.computed_texts) <= {f"t{i}" for i in range(31)}


async def test_a_ticket_knows_who_computed_it_or_who_owes_it() -> None:
    replica = FakeReplica("quick", behave=lambda *_: 0.001)
    queue, _ = batcher(replica)
    done = submit(queue, ["a", "b"])
    assert done.replica == "", "still queued"
    assert await outcome(done) is None
    assert done.replica == "quick"
    hung, _ = batcher(FakeReplica("hung", behave=lambda *_: 60.0))
    waiting = submit(hung, ["a"])
    await asyncio.sleep(0.01)
    assert waiting.replica == "hung"
    broken, _ = batcher(FakeReplica("broken", behave=lambda *_: RuntimeError("dead")))
    failed = submit(broken, ["a"])
    assert await outcome(failed) is not None
    assert failed.replica == "broken"
    await hung.close()
