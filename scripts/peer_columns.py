"""
What `bench_peers.py` asks every server, with one client for all: the columns of its table.

A text is of random Chinese characters, another one each time; the texts of a round are the same for every server. One
caller goes through a blocking socket, many through one event loop: both cost the machine the same whoever answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from slo.stats import nearest_rank

MODEL = "gte-base-zh"
SPECIAL_TOKENS = 2
MIX = (4, 20, 50)
CROWD = 50
LATE_S = 10.0  # a caller's patience


@dataclass(frozen=True)
class Column:
    """One figure of a server. `lower` is better, or higher; `measure(endpoint, seed)` gives it."""

    name: str
    unit: str
    lower: bool
    measure: Callable[[str, int], float]


class Caller:
    """One kept-alive connection, one request at a time: the least that a client can cost."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._host = f"{parts.hostname}:{parts.port}"
        self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, given: str | list[str]) -> float:
        """Seconds until the last byte of the answer. RuntimeError unless it is 200 with a body."""
        body = json.dumps({"model": MODEL, "input": given}).encode()
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        begun_s = time.perf_counter()
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status = self._file.readline().split()[1]
        size = 0
        while line := self._file.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        answer = self._file.read(size)
        took_s = time.perf_counter() - begun_s
        if status != b"200" or not size:
            raise RuntimeError(f"{self._host} answered {status.decode()}: {answer[:200].decode(errors='replace')}")
        return took_s


def texts(seed: int, *lengths: int) -> Iterator[str]:
    """Texts of one of these lengths each, without end."""
    source = random.Random(seed)
    while True:
        yield "".join(chr(source.randrange(0x4E00, 0x9FA5)) for _ in range(source.choice(lengths)))


def one_caller_ms(endpoint: str, seed: int, *, length: int, requests: int) -> float:
    """P95 of one caller's requests of one text."""
    each = texts(seed * 1000 + length, length)
    with Caller(endpoint) as caller:
        for _ in range(3):
            caller.ask(next(each))
        return nearest_rank(sorted(caller.ask(next(each)) for _ in range(requests)), 0.95) * 1000


def bulk_tokens_per_s(endpoint: str, seed: int, *, length: int, requests: int) -> float:
    """Tokens per second of requests of 32 texts of one length, one after another: the median request."""
    each = texts(seed * 1000 + length + 1, length)
    with Caller(endpoint) as caller:
        caller.ask([next(each) for _ in range(32)])
        took = sorted(caller.ask([next(each) for _ in range(32)]) for _ in range(requests))
    return 32 * (length + SPECIAL_TOKENS) / took[len(took) // 2]


def crowd_per_s(endpoint: str, seed: int, *, seconds: float) -> float:
    """Answers per second to fifty callers in closed loops, whatever time each takes."""
    return len(asyncio.run(_crowd(endpoint, seed, seconds))) / seconds


def open_loop_ms(endpoint: str, seed: int, *, rate: float, seconds: float) -> float:
    """P95 of Poisson arrivals from the moment each is due; what fails is infinitely late."""
    return nearest_rank(sorted(asyncio.run(_open_loop(endpoint, seed, rate, seconds))), 0.95) * 1000


async def _crowd(endpoint: str, seed: int, seconds: float) -> list[float]:
    each, took = texts(seed * 1000 + 7, *MIX), list[float]()
    begun_s = time.perf_counter() + 1.0  # the first second warms up

    async def caller(http: aiohttp.ClientSession) -> None:
        while (now_s := time.perf_counter()) < begun_s + seconds:
            ok = await _ask(http, next(each))
            if not ok:
                await asyncio.sleep(0.02)
            elif begun_s <= time.perf_counter() < begun_s + seconds:
                took.append(time.perf_counter() - now_s)

    async with _session(endpoint) as http:
        await asyncio.gather(*(caller(http) for _ in range(CROWD)))
    return took


async def _open_loop(endpoint: str, seed: int, rate: float, seconds: float) -> list[float]:
    each, source, took = texts(seed * 1000 + 9, *MIX), random.Random(seed), list[float]()

    async def one(http: aiohttp.ClientSession, due_s: float, text: str) -> None:
        ok = await _ask(http, text)
        took.append(time.perf_counter() - due_s if ok else float("inf"))

    async with _session(endpoint) as http:
        asked, due_s = [], time.perf_counter()
        end_s = due_s + seconds
        while (due_s := due_s + source.expovariate(rate)) < end_s:
            await asyncio.sleep(due_s - time.perf_counter())
            asked.append(asyncio.ensure_future(one(http, due_s, next(each))))
        await asyncio.gather(*asked)
    return took


async def _ask(http: aiohttp.ClientSession, text: str) -> bool:
    try:
        async with http.post("/v1/embeddings", data=json.dumps({"model": MODEL, "input": text})) as answer:
            await answer.read()
            return answer.status == 200
    except (aiohttp.ClientError, asyncio.TimeoutError):
        return False


def _session(endpoint: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        endpoint, connector=aiohttp.TCPConnector(limit=0), headers={"Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(total=LATE_S),
    )  # fmt: skip


def columns(*, rate: float, seconds: float, requests: int) -> list[Column]:
    """All of them. `requests` of one caller and short texts; fewer of long ones."""

    def alone(length: int) -> Column:
        count = max(20, min(requests, requests * 50 // length))

        def measure(endpoint: str, seed: int) -> float:
            return one_caller_ms(endpoint, seed, length=length, requests=count)

        return Column(f"one caller, {length} characters: P95", "ms", True, measure)

    def bulk(length: int) -> Column:
        def measure(endpoint: str, seed: int) -> float:
            return bulk_tokens_per_s(endpoint, seed, length=length, requests=max(2, 300 // length))

        return Column(f"a request of 32 texts of {length} characters", "tokens/s", False, measure)

    def crowd(endpoint: str, seed: int) -> float:
        return crowd_per_s(endpoint, seed, seconds=seconds)

    def arrivals(endpoint: str, seed: int) -> float:
        return open_loop_ms(endpoint, seed, rate=rate, seconds=seconds)

    return [
        *map(alone, (4, 20, 50, 128, 256, 510)),
        Column(f"{CROWD} callers, 4, 20 and 50 characters, all let in", "answers/s", False, crowd),
        Column(f"open loop, the same texts, {rate:g}/s: P95", "ms", True, arrivals),
        *map(bulk, (50, 200, 510)),
    ]
