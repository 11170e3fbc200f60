"""Callers who ask again as OpenAI's SDKs do; their latency runs from the first due time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.bench.collect import tokens_of
from slo.bench.load import LoadPlan, load_once
from slo.bench.rederive import rederive
from slo.bench.retries import LONGEST_S, MOST_S, asked_wait_s, own_wait_s
from slo.bench.schedule import parse_arrivals
from slo.record_form import packed
from slo.records import Run
from tests.bench.test_load import session
from tests.stub_server import Reply, StubServer

NOW_S = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({b"retry-after-ms": b"250"}, 0.25),
        ({b"retry-after": b"2"}, 2.0),
        ({b"retry-after": b"0.5"}, 0.5),
        ({b"retry-after": b"2", b"retry-after-ms": b"1500"}, 1.5),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:25 GMT"}, 5.0),
        ({b"retry-after": b"Tue, 14 Nov 2023 22:13:15 GMT"}, None),
        ({b"retry-after": b"61"}, None),
        ({b"retry-after": b"0"}, None),
        ({b"retry-after": b"soon"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_an_answer_asks_for(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert asked_wait_s(headers, NOW_S) == seconds
    assert seconds is None or seconds <= LONGEST_S


@given(attempts=st.integers(1, 20), luck=st.floats(0, 1))
def test_the_wait_without_one_doubles_up_to_eight_seconds(attempts: int, luck: float) -> None:
    wait_s = own_wait_s(attempts, luck)
    assert 0.75 * min(0.5 * 2 ** (attempts - 1), MOST_S) <= wait_s <= min(0.5 * 2 ** (attempts - 1), MOST_S)


def asked(retries: int, reply: Reply, *, every: int = 3) -> tuple[Run, StubServer]:
    """Two seconds of load on a server that gives every n-th text the `reply` at first, and an answer later."""
    seen: dict[str, int] = {}

    def script(_number: int, texts: list[str]) -> Reply:
        seen[texts[0]] = seen.get(texts[0], 0) + 1
        return reply if seen[texts[0]] == 1 and len(seen) % every == 0 else Reply()

    with StubServer(script) as server:
        to = session(server.endpoint)
        to = type(to)(**{**vars(to), "retries": retries, "check_every": 10**6})
        schedule = parse_arrivals("constant", rate=30, duration_s=2, seed=1)
        run = load_once(to, LoadPlan(schedule=schedule, warmup_s=0.0))
    return run, server


def test_a_refused_request_is_sent_again_after_the_time_asked_for_and_is_late_by_it() -> None:
    refusal = Reply(status=429, headers={"retry-after-ms": "300"})
    run, server = asked(2, refusal)
    assert len(run.samples) == 60
    assert all(sample.ok for sample in run.samples)
    slow = [sample for sample in run.samples if sample.latency_ms >= 300]
    assert len(slow) >= 15
    references = run.details["answers"]["compared"]
    assert run.details["sent_again"] == len(server.requests) - 60 - references >= 15
    assert run.settings["retries"] == 2
    assert rederive(packed(run.to_json())).sound
    assert sum(not sample.ok for sample in asked(0, refusal)[0].samples) >= 15, "nobody asks again by default"


@pytest.mark.parametrize(
    "reply",
    [Reply(status=400), Reply(status=429, headers={"x-should-retry": "false", "retry-after-ms": "1"})],
    ids=["a mistake", "not wished"],
)
def test_what_would_fail_again_is_not_sent_again(reply: Reply) -> None:
    run, _ = asked(2, reply)
    assert run.details["sent_again"] == 0
    assert sum(not sample.ok for sample in run.samples) >= 15


def test_a_caller_loses_patience_while_waiting_for_its_turn() -> None:
    run, _ = asked(1, Reply(status=503, headers={"retry-after": "30"}))
    late = [sample for sample in run.samples if sample.outcome == "timeout"]
    assert len(late) >= 15
    assert all(sample.latency_ms == pytest.approx(5000, abs=1) for sample in late)


def test_the_tokens_of_answers_are_counted_where_all_say_so() -> None:
    run, server = asked(0, Reply())
    texts = server.texts[:60]
    assert run.details["tokens_answered"] == sum(map(len, texts))
    silent, _ = asked(0, Reply(body={"data": [{"index": 0, "embedding": [0.5] * 8}]}))
    assert silent.details["tokens_answered"] is None


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        (b'{"data":[],"usage":{"prompt_tokens":12,"total_tokens":12}}', 12),
        (b'{"usage": {"prompt_tokens" : 7}, "data": []}', 7),
        (b'{"usage":{"total_tokens":7}}', None),
        (b'{"usage":{"prompt_tokens":null}}', None),
        (b"", None),
    ],
)
def test_usage_is_read_wherever_it_stands(answer: bytes, tokens: int | None) -> None:
    assert tokens_of(answer) == tokens
