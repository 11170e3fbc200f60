"""A request's clock runs from the last byte of its body to the answer: the client's line is the client's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from slo.clock import ManualClock
from slo.serve.door.cache import Cache
from slo.serve.door.call import Bodies, Upload
from slo.serve.door.directory import Directory
from slo.serve.door.front import Front
from slo.serve.door.gate import Gate
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.reports import window_report
from slo.settings_serve import ServeSection
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import opened

WAYS = pytest.mark.parametrize("short", [True, False], ids=["short way", "long way"])
BODY = orjson.dumps({"model": "m", "input": "你好"})
Message = dict[str, Any]


def arriving(clock: ManualClock, *chunks: tuple[float, bytes]) -> Callable[[], Awaitable[Message]]:
    """A `receive` that gives each chunk after so many seconds."""
    left = list(chunks)

    async def receive() -> Message:
        wait_s, chunk = left.pop(0)
        clock.advance(wait_s)
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive


@pytest.mark.parametrize(
    ("late_s", "chunks", "received_s"),
    [
        pytest.param(0.0, [(0.0, BODY)], 0.0, id="with the headers"),
        pytest.param(0.0, [(0.2, BODY)], 0.2, id="after them"),
        pytest.param(0.0, [(0.1, b"a"), (0.1, b"b"), (0.1, b"c")], 0.3, id="in pieces"),
        pytest.param(0.5, [(0.0, BODY)], 0.0, id="read late by us"),
        pytest.param(0.5, [(0.0, b"a"), (0.1, b"b")], 0.6, id="read late by us, and not over even then"),
    ],
)
async def test_the_last_byte_came_when_the_last_wait_for_it_ended(
    late_s: float, chunks: list[tuple[float, bytes]], received_s: float
) -> None:
    clock = ManualClock()
    begun_s = clock.monotonic()
    upload = Upload(arriving(clock, *chunks), clock.monotonic, Bodies(1))
    clock.advance(late_s)
    for _ in chunks:
        await upload()
    assert upload.received_s - begun_s == pytest.approx(received_s)
    assert upload.took_s == pytest.approx(received_s)


async def test_neither_a_slow_upload_nor_a_slow_reader_is_in_the_latency() -> None:
    clock = ManualClock()
    telemetry, cache, settings = Telemetry(clock.monotonic), Cache(0), ServeSection()
    directory = Directory(FakeFinder(m=[FakeReplica()]), settings, cache, telemetry)
    front = Front(settings, directory, cache, telemetry)

    async def nowhere(*_: Any) -> None:
        raise AssertionError("it is answered right here")

    async def send(_: Any) -> None:
        clock.advance(3.0)

    gate = Gate(nowhere, front=front, telemetry=telemetry, short=True)
    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": []}
    await gate(scope, arriving(clock, (0.2, BODY[:9]), (0.2, BODY[9:])), send)
    report = window_report(telemetry, 60, 0.150)
    assert (report["total"], report["good"]) == (1, 1)
    assert report["stages"]["upload"]["p50_ms"] == pytest.approx(400, rel=0.03)
    await directory.close()


@WAYS
async def test_slow_uploads_are_answered_counted_from_their_last_byte_and_shown_apart(short: bool) -> None:
    async with opened(FakeFinder(m=[FakeReplica()]), short=short) as door:
        await door.embed({"model": "m", "input": "warm"})

        async def slow(number: int) -> bytes:
            body = orjson.dumps({"model": "m", "input": f"慢{number}"})
            reader, writer = await asyncio.open_connection("127.0.0.1", door.host._port)
            head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nX-SLO-Deadline-Ms: 150\r\nContent-Length: {len(body)}"
            writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + body[:10])
            await asyncio.sleep(0.4)
            writer.write(body[10:])
            answer = await reader.read()
            writer.close()
            return answer

        answers = await asyncio.gather(*map(slow, range(20)))
        _, window = await door.get("/slo/api/window?seconds=60&threshold_ms=300")
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200"}
    assert all(float(answer.partition(b"upload;dur=")[2].split(b",")[0]) > 350 for answer in answers)
    assert (window["total"], window["good"]) == (21, 21)
    assert window["stages"]["upload"]["p95_ms"] >= 390


LARGE = orjson.dumps({"model": "m", "input": "大" * 20_000})
LIMITS = ServeSection.model_validate({"limits": {"max_body": 100_000, "max_queue": 65_536}})  # bodies: 200 000 bytes


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async def look() -> None:
        while not await condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 20)


@WAYS
async def test_a_text_that_many_wait_for_is_in_memory_only_so_often(short: bool) -> None:
    replica = FakeReplica(behave=lambda call, _: 0.0 if call else 3600.0)
    async with opened(FakeFinder(m=[replica]), LIMITS, short=short) as door:
        asked = [asyncio.create_task(door.post(LARGE)) for _ in range(8)]

        async def five_are_answered() -> bool:
            return sum(task.done() for task in asked) == 5

        await until(five_are_answered)
        assert {task.result()[0] for task in asked if task.done()} == {429}
        assert (await door.post(BODY))[0] == 200
        replica.out[0].set_result(None)
        assert sorted([status for status, _ in await asyncio.gather(*asked)]) == [200] * 3 + [429] * 5
        assert (await door.post(LARGE))[0] == 200
        _, window = await door.get("/slo/api/window")
    assert window["rejected"]["queue_full"] == 5


@WAYS
async def test_bodies_that_are_sent_slowly_take_so_much_memory_and_no_more(short: bool) -> None:
    async with opened(FakeFinder(m=[FakeReplica()]), LIMITS, short=short) as door:

        async def begin() -> asyncio.StreamWriter:
            _, writer = await asyncio.open_connection("127.0.0.1", door.host._port)
            writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 61000\r\n\r\n" + LARGE)
            await writer.drain()
            return writer

        async def large_is(status: int) -> bool:
            return (await door.post(LARGE))[0] == status

        begun = [await begin() for _ in range(3)]
        await until(lambda: large_is(429))
        assert (await door.post(BODY))[0] == 200
        for writer in begun:
            writer.close()
        await until(lambda: large_is(200))
