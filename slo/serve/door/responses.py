"""
Answers as bytes: the JSON body that OpenAI and Xinference write, and the headers that say how it came about.

numpy rows go to orjson as they are: 768 values take 17 µs, and 9.7 KB as float32 where doubles take 16. Thousands of
rows take so long that they are written in slices, and others have their turn in between.

`Delay` holds them back on purpose, bounded in time: what a drill breaks.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.responses import Response

from slo.serve.door.cache import Vector
from slo.serve.door.problem import Problem, invalid
from slo.serve.door.request import EmbeddingRequest

CACHE_NAME = "xinference-slo"
SLICE_ROWS = 64  # about a millisecond
UNIT_TOLERANCE = 1e-6  # of a squared length: what float32 rounds


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


def problem_reply(problem: Problem) -> Reply:
    """The error as OpenAI words it."""
    return Reply(problem.status, problem.body(), problem.headers)


def json_reply(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """Any JSON value; not a number becomes null."""
    return Reply(status, orjson.dumps(data), headers or {})


def as_response(reply: Reply) -> Response:
    """The reply as Starlette wants it."""
    return Response(reply.body, reply.status, dict(reply.headers), media_type=reply.content_type)


async def written(request: EmbeddingRequest, vectors: Sequence[Vector]) -> bytes:
    """The body for `vectors`, at once or in slices. Raises as `embeddings_body`."""
    if len(vectors) <= SLICE_ROWS:
        return embeddings_body(request, vectors)
    return await embeddings_body_in_slices(request, vectors)


def embeddings_body(request: EmbeddingRequest, vectors: Sequence[Vector]) -> bytes:
    """The body for `vectors`, one per text. Raises `Problem` 400 when more dimensions are asked for than there are."""
    body = {"object": "list", "model": request.model, "data": _rows(request, vectors, 0), "usage": _usage(vectors)}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


async def embeddings_body_in_slices(request: EmbeddingRequest, vectors: Sequence[Vector]) -> bytes:
    """The same bytes, written while others get their turns on the loop. Raises as `embeddings_body`."""
    slices: list[memoryview] = []
    for start in range(0, len(vectors), SLICE_ROWS):
        rows = _rows(request, vectors[start : start + SLICE_ROWS], start)
        slices.append(memoryview(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))[1:-1])
        await asyncio.sleep(0)
    head = orjson.dumps({"object": "list", "model": request.model})[:-1]
    return b"".join([head, b',"data":[', b",".join(slices), b'],"usage":', orjson.dumps(_usage(vectors)), b"}"])


def _rows(request: EmbeddingRequest, vectors: Sequence[Vector], start: int) -> list[dict[str, Any]]:
    return [
        {"index": index, "object": "embedding", "embedding": _row(vector.packed, request)}
        for index, vector in enumerate(vectors, start)
    ]


def _usage(vectors: Sequence[Vector]) -> dict[str, int]:
    tokens = sum([vector.tokens for vector in vectors])
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _row(packed: bytes, request: EmbeddingRequest) -> Any:
    values = np.frombuffer(packed, dtype="<f4")
    if request.dimensions is not None:
        if request.dimensions > len(values):
            raise invalid(f"'dimensions' is {request.dimensions}, the model has {len(values)}", param="dimensions")
        values = values[: request.dimensions]
    if request.normalise:
        values = _unit(values)
    return base64.b64encode(values.tobytes()).decode("ascii") if request.base64 else values


def _unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same direction with length 1. Most models give that themselves, and a look costs less than a division."""
    if abs(float(values.dot(values)) - 1) <= UNIT_TOLERANCE:
        return values
    length = np.linalg.norm(values.astype(np.float64))
    return (values / length).astype("<f4") if length > 0 else values


def too_long(vectors: Sequence[Vector]) -> Problem:
    """400 for the first text that was cut, and by how much."""
    index, unread = next((index, vector.truncated) for index, vector in enumerate(vectors) if vector.truncated)
    what = f"'input[{index}]' has more tokens than the model takes: its last {unread} characters would not be read"
    return invalid(what, param="input", reason="too_long")


def truncation(unread: Sequence[int]) -> dict[str, str]:
    """The header that says how many texts were cut and how many of their characters were not read; none if none was."""
    return {"x-slo-truncated": f"texts={len(unread)}, characters={sum(unread)}"} if unread else {}


def cache_status(hits: int, total: int, *, enabled: bool, collapsed: bool) -> str:
    """RFC 9211: `hit` only when no text of the request had to be computed."""
    if not enabled:
        return f"{CACHE_NAME}; fwd=bypass"
    if hits == total:
        return f"{CACHE_NAME}; hit"
    parts = [CACHE_NAME, "fwd=miss"]
    if collapsed:
        parts.append("collapsed")
    if total > 1:
        parts.append(f'detail="{hits} of {total} known"')
    return "; ".join(parts)


def server_timing(stages_ms: Mapping[str, float]) -> str:
    """`queue;dur=0.4, infer;dur=8.1`, in milliseconds as the header wants them."""
    return ", ".join([f"{name};dur={value:.2f}" for name, value in stages_ms.items()])


class Delay:
    """How long every answer of the model is held back now: zero, but in a drill."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seconds = self._until_s = 0.0

    @property
    def seconds(self) -> float:
        """Seconds to wait; ends by itself."""
        return self._seconds if self._seconds and self._now() < self._until_s else 0.0

    def set(self, seconds: float, for_s: float) -> None:
        """Hold answers back for `seconds` each, during the next `for_s`."""
        self._seconds, self._until_s = seconds, self._now() + for_s
