"""Wrong vectors are seen from outside, whatever is wrong with them; right ones are left alone."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence

import pytest

from slo.watch.sli.golden import TEXTS, Golden, Seen

Vector = Sequence[float]


def vector(seed: object, dimension: int = 64) -> list[float]:
    source = random.Random(str(seed))
    values = [source.gauss(0, 1) for _ in range(dimension)]
    length = math.hypot(*values)
    return [value / length for value in values]


def a_round(number: int, spoil: Callable[[Vector], Vector] = lambda v: v, *, model: int = 0) -> list[Seen]:
    """What a round brings: three known texts among nine of their own."""
    own = [Seen(spoil(vector(f"{number}/{index}/{model}"))) for index in range(9)]
    known = [Seen(spoil(vector(f"golden/{index}/{model}")), index) for index in range(len(TEXTS))]
    return [own[0], known[0], *own[1:5], known[1], *own[5:], known[2]]


@pytest.fixture
def golden() -> Golden:
    return Golden("http://h", "m")


def test_right_vectors_are_right_and_noise_of_an_engine_is_none_of_our_business(golden: Golden) -> None:
    chance = random.Random(1)

    def noisy(values: Vector) -> Vector:
        return [value + chance.gauss(0, 0.005) for value in values]  # cosine about 0.999

    for number in range(5):
        assert not any(golden.judge(a_round(number, noisy)))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda v: [0.0] * len(v), "without length", id="zeros"),
        pytest.param(lambda _: [0.0] * 5, "without length", id="five zeros, as in the report"),
        pytest.param(lambda v: v[:32], "32 dimensions instead of 64", id="dimension"),
        pytest.param(lambda v: [10.74 * x for x in v], "of length 10.7 instead of 1", id="not normalised any more"),
        pytest.param(lambda _: vector("constant"), "the same vector for different texts", id="one for all"),
        pytest.param(lambda v: v[::-1], "known text has changed", id="another model"),
        pytest.param(lambda v: [float("inf"), *v[1:]], "without length", id="not finite"),
    ],
)
def test_wrong_vectors_are_all_found(golden: Golden, spoil: Callable[[Vector], Vector], reason: str) -> None:
    golden.judge(a_round(0))
    found = golden.judge(a_round(1, spoil))
    assert all(found), "when no known text has its vector, no answer is believed"
    assert sum(reason in each for each in found) >= 3


def test_zeros_are_wrong_from_the_first_round_on_and_never_remembered(golden: Golden) -> None:
    assert all(golden.judge(a_round(0, lambda _: [0.0] * 5)))
    assert not any(golden.judge(a_round(1)))


def test_one_bad_replica_condemns_its_own_answers_alone(golden: Golden) -> None:
    golden.judge(a_round(0))
    answers = a_round(1)
    answers[1] = Seen(vector("elsewhere"), 0)
    found = golden.judge(answers)
    assert [index for index, reason in enumerate(found) if reason] == [1]


def test_what_is_remembered_survives_a_restart_and_is_of_one_model_at_one_address(golden: Golden) -> None:
    golden.judge(a_round(0))
    state = json.loads(json.dumps(golden.state()))
    again, elsewhere = Golden("http://h", "m"), Golden("http://other", "m")
    for each in (again, elsewhere):
        each.restore(state)
    assert not any(again.judge(a_round(1)))
    assert all(again.judge(a_round(2, model=1)))
    assert not any(elsewhere.judge(a_round(2, model=1)))


def test_other_weights_that_the_server_tells_of_have_vectors_of_their_own(golden: Golden) -> None:
    golden.serving("one")
    golden.judge(a_round(0))
    golden.serving("two")
    assert not any(golden.judge(a_round(1))), "sent before the change, perhaps"
    assert not any(golden.judge(a_round(2, model=1)))
    golden.serving("")
    assert all(golden.judge(a_round(3))), "a server that says nothing changes nothing"
    golden.serving("one")
    golden.judge([])
    assert not any(golden.judge(a_round(4)))
    assert all(golden.judge(a_round(5, model=1)))
