"""Admission: a table of queue states, and what must hold for all of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.serve.door.admission import ONLINE_TEXTS, Ask, Decision, QueueState, Rules, decide, predict, sent_as_batch
from slo.serve.engine.cost import PassCost

IDLE = QueueState(0, 0, 0.0, 1)
SHED = Rules("shed", 0.150, 200_000)
QUEUE = Rules("queue", 0.150, 200_000)
DEFER = Rules("defer", 0.150, 200_000, max_wait_s=5.0)


def cost() -> PassCost:
    """5 ms per pass, 0.26 ms per token, as measured on two cores."""
    model = PassCost()
    for _ in range(200):
        for tokens in (6, 80, 160):
            model.observe(tokens, 0.005 + 0.00026 * tokens, 0.007 + 0.00026 * tokens, 0.0)
    return model


COST = cost()


def decided(state: QueueState, ask: Ask, rules: Rules = SHED, factor: float = 1.25) -> Decision:
    return decide(state, ask, rules, cost=COST, pass_tokens=150, headroom_at=lambda _: factor)


def busy(tokens: int, running_s: float = 0.02, batch: int = 0, replicas: int = 1) -> QueueState:
    return QueueState(tokens, batch, running_s, replicas)


def deferring(online: int, deferred: int, share: float = 1.0) -> QueueState:
    return replace(busy(online), deferred_tokens=deferred, deferred_share=share, granted_share=0.04)


CASES: list[tuple[str, QueueState, Ask, Rules, str | None, bool]] = [
    ("idle", IDLE, Ask(1, 22), SHED, None, True),
    ("idle and big", IDLE, Ask(1, 512), SHED, None, False),
    ("idle and impossible deadline", IDLE, Ask(1, 22, deadline_s=0.001), SHED, None, True),
    ("short queue", busy(60), Ask(1, 22), SHED, None, True),
    ("long queue", busy(600), Ask(1, 22), SHED, "overloaded", True),
    ("long queue, three replicas", busy(300, replicas=3), Ask(1, 22), SHED, None, True),
    ("long queue, policy queue", busy(600), Ask(1, 22), QUEUE, None, True),
    ("policy queue, own deadline", busy(600), Ask(1, 22, deadline_s=0.1), QUEUE, "overloaded", True),
    ("long queue, longer deadline", busy(600), Ask(1, 22, deadline_s=1.0), SHED, None, True),
    ("full queue, either policy", busy(199_990), Ask(1, 22), QUEUE, "queue_full", True),
    ("batch ignores the deadline", busy(600), Ask(ONLINE_TEXTS + 1, 400), SHED, None, False),
    ("batch by header", busy(600), Ask(1, 22, batch=True), SHED, None, False),
    ("batch counts for the bound of batch", busy(10, batch=199_900), Ask(200, 5000), SHED, "queue_full", False),
    ("online counts for the bound of batch", busy(199_900), Ask(200, 5000), SHED, "queue_full", False),
    ("batch beyond the bound leaves online alone", busy(0, batch=600_000), Ask(1, 22), SHED, None, True),
    ("deadline header makes it online", busy(10), Ask(50, 1300, deadline_s=0.1), SHED, "overloaded", True),
    ("impossible alone is batch", busy(10), Ask(3, 1500), SHED, None, False),
    ("time already spent counts", busy(60), Ask(1, 22, spent_s=0.12), SHED, "overloaded", True),
    ("batch does not delay online", busy(60, batch=100_000), Ask(1, 22), SHED, None, True),
]


@pytest.mark.parametrize(
    ("state", "ask", "refused", "deferred"),
    [
        pytest.param(busy(60), Ask(1, 22), None, False, id="in time"),
        pytest.param(busy(600), Ask(1, 22), None, True, id="late, within the wait"),
        pytest.param(busy(60), Ask(1, 22, spent_s=0.2), None, True, id="late before it began"),
        pytest.param(deferring(60, 17_000), Ask(1, 22), None, False, id="in time beside many that are not"),
        pytest.param(deferring(600, 10_000), Ask(1, 22), None, True, id="late, many before it"),
        pytest.param(deferring(600, 17_000), Ask(1, 22), "overloaded", True, id="beyond the wait"),
        pytest.param(deferring(600, 3000, 0.1), Ask(1, 22), "overloaded", True, id="beyond the wait, of a small share"),
        pytest.param(busy(600), Ask(1, 22, deadline_s=0.1), "overloaded", False, id="a deadline of one's own"),
        pytest.param(deferring(600, 199_200, 1.0), Ask(1, 300), "queue_full", True, id="full"),
    ],
)
def test_what_cannot_be_in_time_is_deferred_while_the_wait_is_bounded(
    state: QueueState, ask: Ask, refused: str | None, deferred: bool
) -> None:
    decision = decided(state, ask, DEFER)
    assert (decision.refused, decision.deferred, decision.online) == (refused, deferred, decision.online)
    if deferred and refused is None:
        assert decision.predicted_s <= DEFER.max_wait_s
    assert decision.timely is (refused is None and not deferred)
    assert decision.deferrable is decision.timely, "what was admitted in time may still be served late"


def test_only_what_is_due_before_it_delays_a_request() -> None:
    state = replace(busy(6000), before_tokens=60)
    assert decided(state, Ask(1, 22)).refused is None
    assert decided(state, Ask(50, 4000, deadline_s=60.0)).refused is None
    assert decided(replace(state, before_tokens=6000), Ask(1, 22)).refused == "overloaded"
    assert decided(replace(busy(199_990), before_tokens=0), Ask(50, 4000, deadline_s=60.0)).refused == "queue_full"


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_decision(case: tuple[str, QueueState, Ask, Rules, str | None, bool]) -> None:
    _, state, ask, rules, refused, online = case
    decision = decided(state, ask, rules)
    assert (decision.refused, decision.online) == (refused, online)


@pytest.mark.parametrize(
    ("tokens", "at_best_s", "idle", "online", "refused"),
    [
        pytest.param(300, 0.080, True, True, None, id="slow for now, idle: served, late, and counted"),
        pytest.param(300, 0.080, False, True, "overloaded", id="slow for now, busy: refused, and counted"),
        pytest.param(500, 0.140, True, False, None, id="too long at any time, idle"),
        pytest.param(500, 0.140, False, False, None, id="too long at any time, busy"),
    ],
)
def test_only_what_the_server_could_never_do_in_time_is_batch(
    tokens: int, at_best_s: float, idle: bool, online: bool, refused: str | None
) -> None:
    slow = PassCost()
    for _ in range(200):
        for size in (6, 80, 160):
            slow.observe(size, 0.020 + 0.001 * size, 0.022 + 0.001 * size, 0.0)
    decision = decide(
        IDLE if idle else busy(10), Ask(1, tokens), SHED, cost=slow, pass_tokens=32, headroom_at=lambda _: 1.25,
        at_best_s=at_best_s,
    )  # fmt: skip
    assert (decision.online, decision.refused) == (online, refused)


def test_prediction_is_running_plus_passes_plus_tokens_plus_call() -> None:
    expected = 0.02 + 2 * COST.call_s + 222 * COST.token_s + COST.overhead_s
    assert predict(200, 22, 0.02, 1, COST, 150) == pytest.approx(expected)


def test_more_headroom_refuses_earlier() -> None:
    assert decided(busy(250), Ask(1, 22), factor=1.0).refused is None
    assert decided(busy(250), Ask(1, 22), factor=2.0).refused == "overloaded"


@pytest.mark.parametrize(
    ("usual", "refused"),
    [
        pytest.param(0, None, id="nobody is longer"),
        pytest.param(52, "overloaded", id="longer ones want the gap as well"),
    ],
)
def test_a_short_text_leaves_room_for_a_usual_one(usual: int, refused: str | None) -> None:
    ahead = max(n for n in range(600) if decided(busy(n), Ask(1, 6)).refused is None)
    assert decided(QueueState(ahead, 0, 0.02, 1, usual), Ask(1, 6)).refused == refused


def test_a_giant_among_the_usual_does_not_shut_the_short_ones_out() -> None:
    assert decided(QueueState(60, 0, 0.02, 1, 10**6), Ask(1, 6)).refused is None


asks: Any = st.builds(
    Ask,
    texts=st.integers(1, 3000),
    tokens=st.integers(1, 10**6),
    deadline_s=st.none() | st.floats(1e-4, 100),
    batch=st.booleans(),
    spent_s=st.floats(0, 10),
)


@given(asks, st.sampled_from([SHED, QUEUE, DEFER]))
def test_an_idle_server_refuses_nobody(ask: Ask, rules: Rules) -> None:
    assert decided(IDLE, ask, rules).refused is None


@given(asks, st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0.001, 5), st.integers(1, 8))
def test_the_queue_stays_bounded_and_predictions_finite(ask: Ask, online: int, batch: int, run: float, n: int) -> None:
    decision = decided(QueueState(online, batch, run, n), ask)
    assert math.isfinite(decision.predicted_s)
    assert decision.predicted_s > 0
    if decision.refused is None:
        assert online + (0 if decision.online else batch) + ask.tokens <= SHED.max_queue_tokens


@given(asks, st.integers(0, 5000), st.floats(0, 1), st.sampled_from([SHED, QUEUE]))
def test_batch_that_waits_changes_nothing_for_online(ask: Ask, online: int, run: float, rules: Rules) -> None:
    alone, beside = (decided(QueueState(online, batch, run, 1), ask, rules) for batch in (0, 600_000))
    if alone.online and not QueueState(online, 0, run, 1).idle:
        assert beside == alone


@given(asks, st.integers(0, 5000), st.integers(0, 5000))
def test_a_longer_queue_never_turns_a_refusal_into_an_admission(ask: Ask, ahead: int, more: int) -> None:
    if decided(busy(ahead), ask).refused is not None:
        assert decided(busy(ahead + more), ask).refused is not None


@pytest.mark.parametrize(
    ("texts", "said", "batch"),
    [(1, False, False), (ONLINE_TEXTS, False, False), (ONLINE_TEXTS + 1, False, True), (1, True, True)],
)
def test_many_texts_are_batch_and_so_is_what_says_so_however_few_its_tokens(
    texts: int, said: bool, batch: bool
) -> None:
    assert sent_as_batch(texts, said=said) is batch
    assert decided(busy(50), Ask(texts, 20, batch=said)).online is not batch
