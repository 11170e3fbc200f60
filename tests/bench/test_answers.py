"""Wrong, short, unreadable and swapped answers are found; right ones cost little."""

from __future__ import annotations

import base64

import numpy as np
import orjson
import pytest

from slo.bench.answers import AnswerCheck, Kept, compare, decode
from slo.bench.exchange import Exchange


def answer(*vectors: list[float], encoding: str = "float") -> bytes:
    def coded(vector: list[float]) -> object:
        return base64.b64encode(np.array(vector, "<f4").tobytes()).decode() if encoding == "base64" else vector

    rows = [{"object": "embedding", "index": i, "embedding": coded(v)} for i, v in enumerate(vectors)]
    return orjson.dumps({"object": "list", "data": rows[::-1]})


def exchange(body: bytes, inputs: int = 1, *, sequence: int = 0) -> Exchange:
    made = Exchange(b"request", "short", inputs=inputs)
    made.answer, made.measured, made.sequence = body, True, sequence
    return made


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_vectors_come_in_the_order_of_their_inputs(encoding: str) -> None:
    vectors = decode(answer([1.0, 0.5], [0.25, 2.0], encoding=encoding), 2)
    assert vectors is not None
    assert vectors.tolist() == [[1.0, 0.5], [0.25, 2.0]]


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        (b"", 1),
        (b"[]", 1),
        (b'{"data": []}', 1),
        (b'{"data": 5}', 1),
        (b'{"data": [{"index": 0, "embedding": []}]}', 1),
        (b'{"data": [{"index": 0, "embedding": ["x"]}]}', 1),
        (b'{"data": [{"index": 0, "embedding": null}]}', 1),
        (b'{"data": [{"index": 0, "embedding": "*"}]}', 1),
        (b'{"data": [{"index": 0, "embedding": "AAA="}]}', 1),
        (b'{"data": [{"index": 0, "embedding": [1e999]}]}', 1),
        (answer([1.0]), 2),
        (answer([1.0], [2.0]), 1),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}', 2),
    ],
)
def test_what_is_no_whole_finite_answer_is_refused(body: bytes, inputs: int) -> None:
    assert decode(body, inputs) is None
    assert AnswerCheck(every=1).outcome(exchange(body, inputs)) == "bad_answer"


def test_not_a_number_in_base64_is_refused() -> None:
    assert decode(answer([float("nan"), 1.0], encoding="base64"), 1) is None


def test_every_nth_is_parsed_and_the_others_are_counted() -> None:
    check = AnswerCheck(every=10)
    assert {check.outcome(exchange(answer([1.0, 2.0]))) for _ in range(100)} == {"ok"}
    assert check.parsed == 10
    assert check.outcome(exchange(answer([1.0, 2.0]))) == "ok"
    assert check.outcome(exchange(b"{}")) == "bad_answer"


def test_another_dimension_is_a_bad_answer() -> None:
    check = AnswerCheck(every=1)
    assert check.outcome(exchange(answer([1.0, 2.0]))) == "ok"
    assert check.outcome(exchange(answer([1.0, 2.0, 3.0]))) == "bad_answer"


def test_what_is_kept_is_bounded_and_never_cached() -> None:
    check = AnswerCheck(every=1, keep=5)
    for number in range(100):
        made = exchange(answer([1.0, 2.0]), sequence=number)
        made.cached = number % 2 == 0
        check.outcome(made)
    assert len(check.kept) == 5
    assert all(kept.sequence % 2 for kept in check.kept)


def test_a_vector_of_another_text_is_wrong_and_rounding_is_not() -> None:
    draw = np.random.default_rng(1)
    vectors = [draw.normal(size=(1, 64)).astype(np.float32) for _ in range(4)]
    kept = [Kept(n, "short", b"", 1, vector) for n, vector in enumerate(vectors)]
    nearly = vectors[0] + np.float32(0.02)
    found = compare(kept, [nearly, vectors[2], None, vectors[3]])
    assert [wrong.sequence for wrong in found.wrong] == [1]
    assert (found.compared, found.unverified) == (3, 1)
    assert found.least_cosine < 0.9


def test_zeros_are_wrong() -> None:
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    assert len(compare([Kept(0, "short", b"", 1, zero)], [one]).wrong) == 1
