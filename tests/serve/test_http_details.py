"""Small things of HTTP on our routes: HEAD, packed bodies, odd JSON, both shapes of an error, the OpenAPI document."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.serve.fakes import FakeFinder
from tests.serve.http_door import Door, opened

PATHS = [
    "/slo/livez", "/slo/readyz", "/slo/metrics", "/slo/api/window", "/slo/api/status", "/slo/api/arrivals",
    "/slo/api/board", "/slo/api/history",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_the_body(path: str) -> None:
    async with (
        opened(FakeFinder()) as door,
        door.http.get(door.url + path) as whole,
        door.http.head(door.url + path) as head,
    ):
        assert (head.status, head.content_type) == (whole.status, whole.content_type)
        assert await head.read() == b""


@pytest.mark.parametrize("short", [True, False], ids=["short way", "long way"])
@pytest.mark.parametrize("path", ["/v1/embeddings", "/slo/api/control"])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "gzip, identity"])
async def test_a_packed_body_is_415_and_says_what_is_read(path: str, coding: str, short: bool) -> None:
    body = gzip.compress(json.dumps({"model": "m", "input": "a"}).encode())
    async with (
        opened(FakeFinder(), short=short) as door,
        door.http.post(door.url + path, data=body, headers={"Content-Encoding": coding}) as answer,
    ):
        assert answer.status == 415
        assert answer.headers["Accept-Encoding"] == "identity"
        said = await answer.json()
    assert said["error"]["code"] == "unsupported_encoding"
    assert said["detail"] == said["error"]["message"]


async def test_identity_is_no_packing() -> None:
    async with opened(FakeFinder()) as door:
        status, _, _ = await door.embed({"model": "m", "input": "a"}, Content_Encoding="identity")
        assert status != 415


ODD = {
    "deep": b"[" * 4000,
    "deep object": b'{"action":' * 400,
    "a lone surrogate": b'{"action":"\\ud800"}',
    "not UTF-8": b'{"action":"\xff"}',
    "a number too long": b'{"action":"delay","delay_ms":' + b"9" * 4000 + b"}",
    "nothing": b"",
    "a list": b"[]",
}


@pytest.mark.parametrize("body", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("path", ["/slo/api/control", "/v1/embeddings"])
async def test_odd_json_is_a_400(path: str, body: bytes) -> None:
    async with opened(FakeFinder()) as door, door.http.post(door.url + path, data=body) as answer:
        assert answer.status in (400, 404)
        assert set(await answer.json()) == {"error", "detail"}


async def test_our_routes_are_in_the_openapi_document() -> None:
    async with opened(FakeFinder()) as door:
        _, document = await door.get("/openapi.json")
        for path in PATHS:
            assert set(document["paths"][path]) == {"get"}
        window = document["paths"]["/slo/api/window"]["get"]
        assert {parameter["name"] for parameter in window["parameters"]} == {"seconds", "threshold_ms"}
        assert 150 in next(each["schema"]["enum"] for each in window["parameters"] if each["name"] == "threshold_ms")
        assert document["paths"]["/slo/api/control"]["post"]["requestBody"]["required"]
        await _answers_as_described(door, document)


async def _answers_as_described(door: Door, document: dict[str, Any]) -> None:
    """Every route answers with a status and a type that the document names."""
    for path in PATHS:
        said = document["paths"][path]["get"]["responses"]
        for query in ("", "?seconds=nonsense"):
            async with door.http.get(door.url + path + query) as answer:
                assert answer.content_type in said[str(answer.status)]["content"], (path, query)
