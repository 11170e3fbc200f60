"""Which models run here: looked up once, watched, forgotten when they go."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from slo.serve.door import directory as module
from slo.serve.door.admission import Ask
from slo.serve.door.batcher import ReplicaLost
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.problem import Problem, Unanswered, not_ready, unknown_model
from slo.serve.telemetry.telemetry import Telemetry
from slo.settings_serve import ServeSection
from tests.serve.fakes import FakeFinder, FakeReplica, packed


def directory(finder: FakeFinder, cache: Cache | None = None) -> Directory:
    return Directory(finder, ServeSection(), Cache(10_000) if cache is None else cache, Telemetry())


async def test_a_model_is_looked_up_once_however_many_ask() -> None:
    finder = FakeFinder(m=[FakeReplica()])
    known = directory(finder)
    lanes = await asyncio.gather(*(known.lane("m") for _ in range(20)))
    assert len(set(map(id, lanes))) == 1
    assert known.ready("m") is lanes[0]
    assert finder.asked == ["m"]


async def test_an_unknown_name_costs_a_look_up_in_a_while_however_many_ask() -> None:
    finder = FakeFinder()
    known = directory(finder)

    async def ask() -> None:
        for _ in range(3):
            with pytest.raises(Problem) as caught:
                await known.lane("nobody")
            assert caught.value.status == 404

    loop = asyncio.get_running_loop()
    start_s = loop.time()
    await asyncio.gather(*(ask() for _ in range(50)))
    assert len(finder.asked) <= (loop.time() - start_s) / module.PAUSE_S + 1 < 150


@pytest.mark.parametrize("before", [unknown_model("m"), not_ready("loading")], ids=["absent", "loading"])
async def test_absent_never_outlives_ready(before: Problem) -> None:
    class Slow(FakeFinder):
        async def find(self, model: str) -> list[FakeReplica]:
            self.asked.append(model)
            answer = self.found[model]
            reached.set()
            await asyncio.sleep(0.02)
            if isinstance(answer, Exception):
                raise answer
            return answer

    reached = asyncio.Event()
    finder = Slow(m=before)
    known = directory(finder)
    early = asyncio.gather(*(known.lane("m") for _ in range(20)), return_exceptions=True)
    await reached.wait()
    finder.found["m"] = [FakeReplica()]  # ready while the look-up is under way that says it is not
    assert await known.lane("m") is not None
    assert all(isinstance(result, Problem) for result in await early)


async def test_a_name_that_is_being_brought_up_is_a_503_and_counts() -> None:
    finder = FakeFinder()
    known = Directory(finder, ServeSection(), Cache(10_000), Telemetry(), expected=["named"])
    known.expect("told", expected=True)
    for name, status in (("named", 503), ("told", 503), ("nobody", 404)):
        with pytest.raises(Problem) as caught:
            await known.lane(name)
        assert caught.value.status == status
        assert known.confirmed(name) is (status == 503)
        assert ("retry-after" in caught.value.headers) is (status == 503)
    known.expect("told", expected=False)
    with pytest.raises(Problem) as caught:
        await known.lane("told")
    assert caught.value.status == 404


async def test_names_from_outside_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_NAMES", 10)
    known = directory(FakeFinder(m=[FakeReplica()]))
    await known.lane("m")
    for index in range(50):
        with pytest.raises(Problem):
            await known.lane(f"x{index}")
    assert len(known._entries) <= 10
    assert known.ready("m") is not None


async def test_a_supervisor_that_is_silent_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeFinder):
        async def find(self, model: str) -> list[FakeReplica]:
            await asyncio.sleep(60)
            return []

    monkeypatch.setattr(module, "LOOKUP_S", 0.02)
    with pytest.raises(Problem) as caught:
        await directory(Silent()).lane("m")
    assert caught.value.status == 503


async def test_the_watch_notices_replicas_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    first, second = FakeReplica("rep0", 1), FakeReplica("rep1", 2)
    finder = FakeFinder(m=[first])
    known = directory(finder)
    lane = await known.lane("m")
    assert lane is not None
    known.start()
    first.load.tokens = 7
    finder.found["m"] = [FakeReplica("rep0", 1), second]
    await asyncio.sleep(0.05)
    assert lane.replicas == [first, second]  # the one known already keeps its load
    finder.found["m"] = [second]
    await asyncio.sleep(0.05)
    assert lane.replicas == [second]
    await known.close()


async def test_other_weights_begin_a_new_generation_and_the_same_weights_do_not() -> None:
    cache = Cache(10_000)
    known = directory(FakeFinder(m=[FakeReplica()]), cache)
    lane = await known.lane("m")
    assert lane is not None
    first = lane.generation
    cache.put(first, "a", packed("a"))
    lane.update([FakeReplica(port=2)])
    assert (lane.generation, len(cache)) == (first, 1)
    lane.update([FakeReplica(port=3, fingerprint="w2")])
    assert lane.generation != first
    assert len(cache) == 0


async def test_what_a_replaced_process_still_brings_is_not_cached() -> None:
    cache = Cache(10_000)
    old = FakeReplica(behave=lambda *_: 0.02)
    lane = await directory(FakeFinder(m=[old]), cache).lane("m")
    assert lane is not None
    ticket = lane.batcher.submit(["a"], [3], online=True)
    await asyncio.sleep(0.005)
    lane.update([FakeReplica(port=2, fingerprint="w2")])
    await ticket.future
    assert len(cache) == 0


async def test_a_model_relaunched_on_another_engine_is_let_go() -> None:
    finder = FakeFinder(m=[FakeReplica()])
    known = directory(finder)
    await known.lane("m")
    finder.found["m"] = []
    await known._ask("m", known._entries["m"])
    assert known.ready("m") is None
    assert await known.lane("m") is None
    assert await known.has_foreign()


async def test_closing_ends_what_waits() -> None:
    known = directory(FakeFinder(m=[FakeReplica(behave=lambda *_: 60.0)]))
    lane = await known.lane("m")
    assert lane is not None
    known.start()
    ticket = lane.batcher.submit(["a"], [3], online=True)
    await asyncio.sleep(0.005)
    await known.close()
    with pytest.raises(Problem):
        await ticket.future


async def test_a_model_that_loads_is_asked_for_again() -> None:
    finder = FakeFinder(m=not_ready("loading"))
    known = directory(finder)
    with pytest.raises(Problem):
        await known.lane("m")
    finder.found["m"] = [FakeReplica()]
    assert await known.lane("m") is not None


UNANSWERED = [Unanswered("the supervisor has gone"), asyncio.TimeoutError(), KeyError("status")]


@pytest.mark.parametrize("error", UNANSWERED, ids=["gone", "silent", "fault"])
async def test_replicas_serve_on_while_nobody_answers_for_them(error: Exception) -> None:
    finder = FakeFinder(m=[FakeReplica(behave=lambda *_: 0.01)])
    known = directory(finder)
    lane = await known.lane("m")
    assert lane is not None
    waiting = lane.batcher.submit(["a"], [3], online=True)
    finder.found["m"] = error
    await known._ask("m", known._entries["m"])
    assert known.ready("m") is lane
    await waiting.future
    assert lane.replicas == lane.batcher.replicas != []


@pytest.mark.parametrize("error", UNANSWERED, ids=["gone", "silent", "fault"])
async def test_a_model_of_another_engine_stays_anothers_while_nobody_answers_for_it(error: Exception) -> None:
    finder = FakeFinder(m=[])
    known = directory(finder)
    assert await known.lane("m") is None
    finder.found["m"] = error
    await known._ask("m", known._entries["m"])
    assert await known.lane("m") is None
    assert await known.has_foreign()


async def test_replicas_of_which_the_supervisor_says_that_they_are_gone_are_let_go() -> None:
    finder = FakeFinder(m=[FakeReplica(behave=lambda *_: 60.0)])
    known = directory(finder)
    lane = await known.lane("m")
    assert lane is not None
    running, waiting = (lane.batcher.submit([name], [400], online=True) for name in "ab")
    finder.found["m"] = not_ready("recovering")
    await known._ask("m", known._entries["m"])
    assert known.ready("m") is None
    with pytest.raises(Problem):
        await waiting.future
    assert lane.replicas == []
    lane.batcher.leave(running)
    await known.close()


@pytest.mark.parametrize("error", UNANSWERED, ids=["gone", "silent", "fault"])
async def test_without_a_replica_nobody_waits_for_an_answer_that_does_not_come(error: Exception) -> None:
    finder = FakeFinder(m=[FakeReplica(behave=lambda *_: ReplicaLost("gone"))])
    known = directory(finder)
    lane = await known.lane("m")
    assert lane is not None
    finder.found["m"] = error
    ticket = lane.batcher.submit(["a"], [3], online=True)
    with pytest.raises(Problem) as caught:
        await asyncio.wait_for(ticket.future, 5)
    assert caught.value.status == 503
    assert known.ready("m") is None
    with pytest.raises(Problem):
        await known.lane("m")


async def test_the_watch_survives_whatever_a_look_up_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WATCH_S", 0.01)
    first, second = FakeReplica("rep0", 1), FakeReplica("rep1", 2)
    odd = FakeReplica("odd", 3, pass_ms={"fixed": None})
    finder = FakeFinder(m=[first])
    known = directory(finder)
    lane = await known.lane("m")
    assert lane is not None
    known.start()
    for trouble in (RuntimeError("what is this"), [odd]):
        finder.found["m"] = trouble
        await asyncio.sleep(0.05)
        assert known.ready("m") is lane
    finder.found["m"] = [first, second]
    await asyncio.sleep(0.05)
    assert lane.batcher.replicas == [first, second]
    await known.close()


async def test_a_model_is_confirmed_by_the_host_and_not_by_who_asks_for_it() -> None:
    finder = FakeFinder(m=[FakeReplica()], loading=not_ready("loading"))
    finder.words["loading"] = {"loading-0": "LOADING"}
    known = directory(finder)
    for name in ("m", "loading", "nobody"):
        assert not known.confirmed(name)
        with contextlib.suppress(Problem):
            await known.lane(name)
    finder.found["m"] = not_ready("recovering")
    await known._ask("m", known._entries["m"])
    assert [known.confirmed(name) for name in ("m", "loading", "nobody")] == [True, True, False]


async def test_a_problem_that_is_kept_holds_neither_a_stack_nor_what_led_to_it() -> None:
    class Asking(FakeFinder):
        async def find(self, model: str) -> list[FakeReplica]:
            try:
                raise ValueError(model)
            except ValueError:
                raise unknown_model(model) from None

    known = directory(Asking())
    for _ in range(2):
        with pytest.raises(Problem) as caught:
            await known.lane("nobody")
        kept = known._entries["nobody"].problem
        assert kept is not None
        assert kept is not caught.value
        assert (kept.status, kept.message) == (404, caught.value.message)
        assert (kept.__traceback__, kept.__context__, kept.__cause__) == (None, None, None)


async def test_what_the_server_can_do_at_best_is_learnt_anew_for_other_weights_and_for_more_replicas() -> None:
    lane = await directory(FakeFinder(m=[FakeReplica()])).lane("m")
    assert lane is not None

    def known_after(*replicas: FakeReplica) -> bool:
        for _ in range(30):
            lane.cost.observe(100, 0.03, 0.032, 0.0)
        lane.update(replicas)
        return lane.cost.at_best_s(100, 1) is not None

    assert known_after(FakeReplica())
    assert known_after(FakeReplica(port=2)), "recovered: the same engine"
    assert not known_after(FakeReplica(fingerprint="w2"))
    assert not known_after(FakeReplica(fingerprint="w2"), FakeReplica("rep1", 3, fingerprint="w2"))
    assert known_after(FakeReplica("rep1", 3, fingerprint="w2")), "one is lost"
    assert known_after(FakeReplica(port=4, fingerprint="w2"), FakeReplica("rep1", 3, fingerprint="w2"))


async def test_a_lost_replica_makes_no_batch_request_of_one_that_was_none() -> None:
    lane = await directory(FakeFinder(m=[FakeReplica(), FakeReplica("rep1", 2)])).lane("m")
    assert lane is not None
    for _ in range(100):
        lane.cost.observe(100, 0.03, 0.032, 0.0)
    assert lane.admit(Ask(8, 640)).online
    lane.update([FakeReplica("rep1", 2)])
    assert lane.admit(Ask(8, 640)).online
    assert not lane.admit(Ask(1, 640)).online, "one text cannot be spread"
