"""Bodies and headers as bytes."""

from typing import Any

import numpy as np
import orjson
import pytest

from slo.serve.door.cache import Vector
from slo.serve.door.problem import Problem
from slo.serve.door.request import EmbeddingRequest
from slo.serve.door.responses import (
    SLICE_ROWS,
    cache_status,
    embeddings_body,
    embeddings_body_in_slices,
    server_timing,
    written,
)
from tests.serve.fakes import counted_turns, packed, vector_of


def test_float32_survives_the_way_through_json() -> None:
    body = orjson.loads(embeddings_body(EmbeddingRequest("m", ("a",)), [packed("a")]))
    assert np.asarray(body["data"][0]["embedding"], dtype="<f4").tobytes() == vector_of("a").tobytes()


def test_a_vector_of_zeros_can_be_shortened() -> None:
    zeros = Vector(np.zeros(8, "<f4").tobytes(), 3, False)
    body = orjson.loads(embeddings_body(EmbeddingRequest("m", ("a",), dimensions=2), [zeros]))
    assert body["data"][0]["embedding"] == [0.0, 0.0]


def test_a_shortened_vector_has_length_one() -> None:
    body = orjson.loads(embeddings_body(EmbeddingRequest("m", ("a",), dimensions=5), [packed("a")]))
    assert np.linalg.norm(body["data"][0]["embedding"]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("normalise", "length"), [(True, 1.0), (False, 3.0)])
def test_a_vector_of_any_length_is_normalised_unless_told_otherwise(normalise: bool, length: float) -> None:
    long = Vector((vector_of("a") * np.float32(3)).tobytes(), 3, False)
    body = orjson.loads(embeddings_body(EmbeddingRequest("m", ("a",), normalise=normalise), [long]))
    assert np.linalg.norm(body["data"][0]["embedding"]) == pytest.approx(length, abs=1e-6)


def many(count: int, **fields: Any) -> tuple[EmbeddingRequest, list[Vector]]:
    texts = tuple(f"t{index}" for index in range(count))
    return EmbeddingRequest('模型 "m"', texts, **fields), [packed(text) for text in texts]


@pytest.mark.parametrize("count", [1, SLICE_ROWS, SLICE_ROWS + 1, 3 * SLICE_ROWS])
@pytest.mark.parametrize("fields", [{}, {"base64": True}, {"dimensions": 3}], ids=["floats", "base64", "shortened"])
async def test_a_body_in_slices_has_the_same_bytes(count: int, fields: dict[str, Any]) -> None:
    request, vectors = many(count, **fields)
    assert await embeddings_body_in_slices(request, vectors) == embeddings_body(request, vectors)


async def test_too_many_dimensions_are_refused_in_slices_as_well() -> None:
    with pytest.raises(Problem):
        await embeddings_body_in_slices(*many(2, dimensions=9))


async def test_others_have_their_turn_while_a_large_body_is_written() -> None:
    async with counted_turns() as turns:
        await written(*many(5 * SLICE_ROWS))
    assert turns[0] >= 5


@pytest.mark.parametrize(
    ("hits", "total", "enabled", "collapsed", "header"),
    [
        (1, 1, True, False, "xinference-slo; hit"),
        (0, 1, True, False, "xinference-slo; fwd=miss"),
        (0, 1, True, True, "xinference-slo; fwd=miss; collapsed"),
        (2, 3, True, False, 'xinference-slo; fwd=miss; detail="2 of 3 known"'),
        (0, 1, False, False, "xinference-slo; fwd=bypass"),
    ],
)
def test_cache_status(hits: int, total: int, enabled: bool, collapsed: bool, header: str) -> None:
    assert cache_status(hits, total, enabled=enabled, collapsed=collapsed) == header


def test_server_timing_is_in_milliseconds() -> None:
    assert server_timing({"queue": 0.123, "infer": 8.0}) == "queue;dur=0.12, infer;dur=8.00"
