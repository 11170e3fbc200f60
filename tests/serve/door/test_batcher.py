"""The queue with its replicas: no text mixed up, and every future ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.serve.door.batcher import Batcher, Embedded, Replica, ReplicaLost
from slo.serve.door.cache import Vector
from slo.serve.door.health import Fitness
from slo.serve.door.planner import Planner
from slo.serve.door.problem import Problem
from slo.serve.door.work import Ticket
from slo.serve.engine.cost import PassCost, TokenEstimate
from slo.serve.telemetry.telemetry import PassTiming
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

    def lost(self, replica: Replica, *, leaving: bool) -> None:
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
        await asyncio.wait_for(asyncio.shield(ticket.future), 30)
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


async def test_a_text_during_which_two_processes_died_is_given_to_no_third() -> None:
    replicas = [FakeReplica(f"rep{i}", behave=lambda *_: ReplicaLost("gone")) for i in range(3)]
    queue, notes = batcher(*replicas)
    error = await outcome(submit(queue, ["poison"]))
    assert isinstance(error, Problem)
    assert (error.status, error.headers) == (500, {"x-should-retry": "false"})
    assert sum(len(replica.calls) for replica in replicas) == len(notes.lost_replicas) == 2
    with pytest.raises(Problem) as caught:  # the client asks again
        submit(queue, ["good", "poison"])
    assert caught.value.reason == "engine_fault"
    assert queue.replicas == [replicas[2]]


async def test_a_text_that_ended_a_process_does_not_get_at_the_last_one() -> None:
    def deadly(_: int, texts: list[str]) -> float | Exception:
        return ReplicaLost("killed") if "poison" in texts else 0.001

    replicas = [FakeReplica(f"rep{i}", behave=deadly) for i in range(2)]
    queue, notes = batcher(*replicas)
    queue.update(replicas, wanted=2)
    tickets = {name: submit(queue, [name], tokens=5) for name in ("a", "poison", "b")}
    await asyncio.sleep(0.02)
    assert len(notes.lost_replicas) == 1, "the pass was given to the last replica"
    assert await outcome(submit(queue, ["ordinary"])) is None
    for port in (2, 3):
        queue.update([*queue.replicas, FakeReplica("fresh", port, behave=deadly)], wanted=2)
        await asyncio.sleep(0.05)
    results = {name: await outcome(ticket) for name, ticket in tickets.items()}
    assert {name for name, error in results.items() if error is not None} == {"poison"}
    assert len(notes.lost_replicas) == 2


async def test_what_was_not_being_computed_when_a_replica_died_goes_on_at_once() -> None:
    loop = asyncio.get_running_loop()
    killed = loop.create_future()

    class Killed(FakeReplica):
        async def embed(self, texts: list[str]) -> Embedded:
            self.calls.append(texts)
            await asyncio.shield(killed)
            raise ReplicaLost("killed")

    dying, other = Killed("dying"), FakeReplica("other", behave=lambda *_: 0.001)
    queue, _ = batcher(dying)
    computing = submit(queue, ["computing"])
    await asyncio.sleep(0.01)
    waiting = submit(queue, ["waiting"])
    await asyncio.sleep(0.05)
    assert dying.calls == [["computing"], ["waiting"]]
    queue.update([dying, other], wanted=2)
    killed.set_result(None)
    assert await outcome(waiting) is None
    assert not computing.future.done()
    queue.update([other, FakeReplica("fresh")], wanted=2)
    assert await outcome(computing) is None


async def test_a_replica_that_fails_fast_costs_no_request_while_another_is_well() -> None:
    failing = FakeReplica("failing", behave=lambda *_: RuntimeError("CUDA error"))
    well = FakeReplica("well", behave=lambda *_: 0.001)
    queue, _ = batcher(failing, well)
    assert [await outcome(submit(queue, [f"t{i}"])) for i in range(60)] == [None] * 60
    assert queue.health.judge(failing.identity, time.perf_counter(), computing=False).test
    assert queue.health.judge(well.identity, time.perf_counter(), computing=False).fitness is Fitness.FIT


async def test_a_text_that_fails_everywhere_is_held_against_no_replica() -> None:
    poison: Behaviour = lambda _, texts: ValueError("poison") if "bad" in texts else 0.0  # noqa: E731
    replicas = [FakeReplica(f"rep{i}", behave=poison) for i in range(2)]
    queue, _ = batcher(*replicas)
    for index in range(12):
        good, bad = submit(queue, [f"t{index}"], tokens=5), submit(queue, ["bad"], tokens=5)
        assert await outcome(good) is None
        assert isinstance(await outcome(bad), Problem)
        for replica in replicas:
            assert not queue.health.judge(replica.identity, time.perf_counter(), computing=False).test


async def test_a_replica_that_is_removed_under_load_costs_no_request() -> None:
    leaving = False

    def behave(_: int, __: list[str]) -> float | Exception:
        return ReplicaLost("it is being stopped", leaving=True) if leaving else 0.002

    removed = FakeReplica("removed", behave=behave)
    queue, notes = batcher(removed, FakeReplica("stays", behave=lambda *_: 0.002))
    tickets = [submit(queue, [f"t{i}"], tokens=40) for i in range(20)]
    await asyncio.sleep(0.003)
    leaving = True
    assert [await outcome(ticket) for ticket in tickets] == [None] * 20
    assert notes.lost_replicas == [removed]


async def test_texts_that_wait_are_bounded_in_bytes() -> None:
    plan = Planner(PassCost(), max_tokens=160, max_items=64, max_wait_s=0.002, in_flight=2, deadline_s=0.15)
    queue = Batcher(plan, TokenEstimate(), Notes(), time.perf_counter, max_bytes=1000)
    queue.update([FakeReplica(behave=lambda *_: 0.01)])
    huge = submit(queue, ["x" * 5000])  # alone it is let in
    with pytest.raises(Problem) as caught:
        submit(queue, ["字" * 400])
    assert (caught.value.status, caught.value.reason) == (429, "queue_full")
    assert await outcome(huge) is None
    kept = submit(queue, ["字" * 400])
    submit(queue, ["字" * 400])  # the same text is there once
    with pytest.raises(Problem):
        submit(queue, ["字" * 101])
    assert await outcome(kept) is None
    assert await outcome(submit(queue, ["y" * 900])) is None, "done texts no longer count"


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
    answer: tuple[bytes, list[int], list[int], dict[str, float]],
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
        with contextlib.suppress(Problem):  # a text during which two replicas were lost
            tickets.append(submit(queue, texts, tokens=rng.randint(3, 100), online=rng.random() < 0.7))
        if tickets and rng.random() < 0.15:
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
