import itertools
from collections import Counter

import pytest

from slo.bench.baseline import BLOCK, GIVE_UP_AFTER, BaselinePlan, run_baseline
from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import BadRequest, RunError, ServerFault, Unauthorized
from slo.objective import Objective, Verdict
from slo.records import Run
from slo.texts import CLASSES, SEED_EXAMPLES
from tests.stub_server import Reply, Script, StubServer

P95 = Objective()
PLAN = BaselinePlan(requests=25, warmup=3, seed=7, pace_s=0.0)
BEFORE = 1 + 3 * 3  # the opening request and the warm-up


def measured(
    script: Script = lambda _n, _texts: Reply(), plan: BaselinePlan = PLAN, *, dimensions: int | None = None
) -> tuple[Run, StubServer]:
    server_facts: dict[str, object] = {} if dimensions is None else {"dimensions": dimensions}
    with StubServer(script) as server, EmbeddingsClient(server.endpoint, "stub", timeout_s=0.5) as client:
        return run_baseline(client, plan, P95, server=server_facts, clock=SystemClock()), server


def test_each_class_is_measured_as_often_as_asked_with_unique_texts() -> None:
    run, server = measured()
    assert Counter(s.length_class for s in run.samples) == dict.fromkeys(CLASSES, 25)
    assert len(server.requests) == BEFORE + 75
    measured_texts = server.texts[BEFORE:]
    assert len(set(measured_texts)) == 75
    assert Counter(map(len, measured_texts)) == {4: 25, 20: 25, 50: 25}
    assert server.connections == 1


def test_the_classes_take_turns_in_blocks_in_changing_order() -> None:
    plan = BaselinePlan(requests=100, warmup=0, seed=1, pace_s=0.0)
    names = [text.length_class for text in plan.measured_texts()]
    blocks = [names[i : i + BLOCK] for i in range(0, len(names), BLOCK)]
    assert all(len(set(block)) == 1 for block in blocks)
    rounds = [tuple(block[0] for block in blocks[i : i + 3]) for i in range(0, len(blocks), 3)]
    assert rounds[0] == tuple(CLASSES)
    assert all(set(order) == set(CLASSES) for order in rounds)
    assert len(set(rounds)) > 1


def test_one_seed_sends_the_same_texts_again() -> None:
    assert measured()[1].texts == measured()[1].texts
    assert measured(plan=BaselinePlan(requests=25, warmup=3, seed=8, pace_s=0.0))[1].texts != measured()[1].texts


def test_warming_sends_the_examples_and_nothing_that_is_measured_later() -> None:
    _, server = measured()
    warm = server.texts[1:BEFORE]
    assert set(SEED_EXAMPLES.values()) <= set(warm)
    assert not set(warm) & set(server.texts[BEFORE:])


def test_the_warm_up_is_not_counted() -> None:
    run, _ = measured(lambda n, _texts: Reply(delay_s=0.45 if n < BEFORE else 0.0))
    assert max(s.latency_ms for s in run.samples) < 450


def test_the_record_says_how_it_was_made() -> None:
    run, server = measured(dimensions=8)
    assert run.kind == "baseline"
    assert run.settings == {
        "requests": 25,
        "warmup": 3,
        "seed": 7,
        "classes": list(CLASSES),
        "block": 10,
        "pace_s": 0.0,
        "connections": 1,
    }
    assert (run.endpoint, run.model, run.server) == (f"{server.endpoint}/v1/embeddings", "stub", {"dimensions": 8})


def test_verdicts_follow_from_what_was_measured() -> None:
    plenty = BaselinePlan(requests=60, warmup=0, seed=1, pace_s=0.0)
    assert measured(plan=plenty)[0].verdict is Verdict.MET
    slow_long = measured(lambda _n, texts: Reply(status=503 if len(texts[0]) == 50 else 200), plenty)[0]
    assert slow_long.verdict is Verdict.MISSED
    assert [s.judgement.verdict.value for s in slow_long.summaries()] == ["met", "met", "missed", "missed"]
    assert measured()[0].verdict is Verdict.UNPROVEN


def test_a_failed_request_is_a_sample_and_not_the_end() -> None:
    run, _ = measured(lambda n, _texts: Reply(status=500) if n == BEFORE + 5 else Reply())
    assert Counter(s.outcome for s in run.samples) == {"ok": 74, "server_fault": 1}
    assert run.notes == []


def test_vectors_of_another_dimension_than_the_server_claims_are_failures() -> None:
    run, _ = measured(dimensions=9)
    assert {s.outcome for s in run.samples} == {"bad_answer"}


def test_a_server_that_goes_away_ends_the_run_early_and_is_noted() -> None:
    run, _ = measured(lambda n, _texts: Reply() if n < BEFORE + 20 else Reply(fault="reset"))
    assert len(run.samples) == 20 + GIVE_UP_AFTER
    assert run.notes == ["ended after 30 of 75: 10 in a row were never answered"]
    assert not run.interrupted


def test_answers_of_a_cache_are_noted() -> None:
    run, _ = measured(lambda n, _texts: Reply(headers={"Cache-Status": "slo; hit"} if n % 2 else {}))
    assert "answers came from a cache" in run.notes[0]


def test_ctrl_c_keeps_what_was_measured() -> None:
    numbers = itertools.count(1)

    def stop_in_the_middle(phase: str, _done: int, _total: int) -> None:
        if phase == "measure" and next(numbers) == 30:
            raise KeyboardInterrupt

    with StubServer() as server, EmbeddingsClient(server.endpoint, "stub") as client:
        run = run_baseline(client, PLAN, P95, server={}, clock=SystemClock(), progress=stop_in_the_middle)
    assert (len(run.samples), run.interrupted) == (30, True)
    assert run.notes == ["stopped by the user after 30 of 75 requests"]


def test_ctrl_c_while_warming_leaves_nothing_to_keep() -> None:
    def stop(_phase: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with (
        StubServer() as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
        pytest.raises(KeyboardInterrupt),
    ):
        run_baseline(client, PLAN, P95, server={}, clock=SystemClock(), progress=stop)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=401), Unauthorized),
        (Reply(status=404), BadRequest),
        (Reply(status=503), ServerFault),
        (Reply(fault="reset"), RunError),
        (Reply(delay_s=5), RunError),
    ],
    ids=["wrong key", "no such model", "not ready", "nobody there", "hung"],
)
def test_a_run_that_cannot_begin_is_a_set_up_error(reply: Reply, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        measured(lambda _n, _texts: reply)
    assert getattr(caught.value, "exit_code", None) == 2


def test_progress_tells_phase_and_count() -> None:
    heard: list[tuple[str, int, int]] = []
    with StubServer() as server, EmbeddingsClient(server.endpoint, "stub") as client:
        run_baseline(client, PLAN, P95, server={}, clock=SystemClock(), progress=lambda *step: heard.append(step))
    assert heard[0] == ("warm-up", 1, 9)
    assert heard[8:10] == [("warm-up", 9, 9), ("measure", 1, 75)]
    assert heard[-1] == ("measure", 75, 75)
