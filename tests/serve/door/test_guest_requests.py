"""Models on Xinference's own engines: plain texts go through the door, all else to the host's route; both count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from fastapi import HTTPException

from slo.serve.door.batcher import Embedded
from slo.serve.door.request import is_plain
from slo.settings_serve import ServeSection
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import Door, opened

WAYS = pytest.mark.parametrize("short", [True, False], ids=["short way", "long way"])


class Guest(FakeReplica):
    """An engine whose vectors have a length other than 1."""

    def __init__(self) -> None:
        super().__init__(guest=True)

    async def embed(self, texts: list[str]) -> Embedded:
        self.calls.append(texts)
        rows = np.asarray([[3.0, 4.0] for _ in texts], dtype="<f4")
        return rows.tobytes(), [7] * len(texts), [0] * len(texts), {"infer": 1.0}


async def counted(door: Door) -> dict[str, Any]:
    status, report = await door.get("/slo/api/window?seconds=60&model=m")
    assert status == 200
    found: dict[str, Any] = report
    return found


@WAYS
async def test_plain_texts_are_answered_from_the_engine_as_it_makes_them_and_from_the_cache(short: bool) -> None:
    guest = Guest()
    async with opened(FakeFinder(m=[guest]), short=short) as door:
        for expected in ("fwd=miss", "hit"):
            status, body, headers = await door.embed({"model": "m", "input": ["一", "二"]})
            assert status == 200
            assert [row["embedding"] for row in body["data"]] == [[3.0, 4.0]] * 2
            assert body["usage"]["total_tokens"] == 14
            assert expected in headers["cache-status"]
        assert sorted(guest.calls[0]) == ["一", "二"], "one call with a list"
        assert len(guest.calls) == 1
        assert door.host.built_in == []


ODD: list[dict[str, Any]] = [
    {"input": "a", "prompt": "q: "},
    {"input": "a", "normalize_embeddings": False},
    {"input": "a", "task": "retrieval"},
    {"input": "a", "dimensions": 1},
    {"input": {"image": "https://example.org/a.png"}},
    {"input": ["a", {"text": "b"}]},
    {"input": [1, 2, 3]},
    {"input": ""},
    {"input": []},
    {"input": "a", "encoding_format": "odd"},
]


@WAYS
@pytest.mark.parametrize("data", ODD, ids=str)
async def test_what_is_more_than_texts_is_the_hosts_business_and_counts(data: dict[str, Any], short: bool) -> None:
    guest = Guest()
    async with opened(FakeFinder(m=[guest]), short=short) as door:
        body = orjson.dumps({"model": "m", **data})
        assert await door.post(body) == (200, b"built in")
        assert door.host.built_in == [body]
        assert guest.calls == []
        report = await counted(door)
        assert report["availability"] == {"total": 1, "good": 1}


@WAYS
async def test_a_body_beyond_our_limit_goes_to_the_host(short: bool) -> None:
    limited = ServeSection.model_validate({"limits": {"max_body": 1024}})
    async with opened(FakeFinder(m=[Guest()]), limited, short=short) as door:
        body = orjson.dumps({"model": "m", "input": {"image": "x" * 5_000}})
        assert await door.post(body) == (200, b"built in")


def _raise(error: Exception) -> Callable[[Any], Any]:
    async def create_embedding(request: Any) -> Any:
        raise error

    return create_embedding


@WAYS
@pytest.mark.parametrize(
    ("error", "code"),
    [(HTTPException(500, "x"), "5xx"), (HTTPException(400, "x"), "4xx"), (RuntimeError("x"), "5xx")],
    ids=["500", "400", "an exception"],
)
@pytest.mark.parametrize("found", [[Guest()], []], ids=["guest", "engine without the door's methods"])
async def test_a_failure_of_the_host_counts_against_the_model(
    error: Exception, code: str, found: list[FakeReplica], short: bool
) -> None:
    async with opened(FakeFinder(m=found), short=short) as door:
        door.host.create_embedding = _raise(error)  # type: ignore[method-assign,assignment]
        await door.post(b'{"model": "m", "input": {"image": "a"}}')
        text = (await _metrics(door)).splitlines()
        counts = [
            line for line in text if line.startswith("slo_request_duration_seconds_count") and f'"{code}"' in line
        ]
        (line,) = [line for line in counts if not line.endswith(" 0.0")]
        assert 'model="m"' in line


async def _metrics(door: Door) -> str:
    async with door.http.get(f"{door.url}/slo/metrics") as response:
        return await response.text()


def test_plain_is_texts_and_nothing_that_an_engine_would_read() -> None:
    assert is_plain({"model": "m", "input": "a"}, 1)
    assert is_plain({"model": "m", "input": ["a"], "user": "u", "encoding_format": "base64"}, 1)
    assert not is_plain({"model": "m", "input": ["a", "b"]}, 1), "more than one call should carry"
    assert not any(is_plain({"model": "m", **odd}, 9) for odd in ODD)
