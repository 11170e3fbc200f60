"""
A server that is a queue with a known answer: it takes all that waits, up to a cap of tokens, in one pass that lasts
a + b·tokens, spent asleep. `python tests/batch_server.py --fixed 6 --token 0.3` (milliseconds) prints its port.

Vectors depend on the text alone. `--wrong-every N` gives every N-th answer the vector of another text;
`--pause-every S --pause-for S` stops serving now and then; `--cache` answers repeated texts as a cache would.
"""

from __future__ import annotations

import argparse
import asyncio
import time
import zlib
from collections import deque
from typing import Any

import orjson
import uvloop

DIMENSIONS = 16


def vector_of(text: str) -> list[float]:
    state, values = zlib.crc32(text.encode()), []
    for _ in range(DIMENSIONS):
        state = (1103515245 * state + 12345) % 2**31
        values.append(state / 2**30 - 1.0)
    return values


class Service:
    """The queue."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.waiting: deque[tuple[Connection, list[str]]] = deque()
        self.arrived = asyncio.Event()
        self.answered = 0
        self.known: set[str] = set()
        self.started_s = time.monotonic()

    def submit(self, connection: Connection, texts: list[str], *, fresh: bool) -> None:
        """Queue a request, or answer it from the cache."""
        if self.options.cache and not fresh and all(text in self.known for text in texts):
            connection.answer(texts, {"Cache-Status": "null; hit"})
            return
        if self.options.apart:
            loop = asyncio.get_running_loop()
            loop.call_later(self.options.fixed / 1000, connection.answer, texts, {})
            return
        self.waiting.append((connection, texts))
        self.arrived.set()

    async def serve(self) -> None:
        """Pass after pass."""
        while True:
            await self.arrived.wait()
            self.arrived.clear()
            while self.waiting:
                await self._pass()

    async def _pass(self) -> None:
        options = self.options
        if options.pause_every:
            phase = (time.monotonic() - self.started_s) % options.pause_every
            if phase > options.pause_every - options.pause_for:
                await asyncio.sleep(options.pause_every - phase)
        batch, load = [self.waiting.popleft()], 0
        load = _tokens(batch[0][1])
        while self.waiting and load + _tokens(self.waiting[0][1]) <= options.cap:
            batch.append(self.waiting.popleft())
            load += _tokens(batch[-1][1])
        seconds = (options.fixed + options.token * load) / 1000
        if seconds:
            await asyncio.sleep(seconds)
        for connection, texts in batch:
            self.answered += 1
            self.known.update(texts)
            wrong = options.wrong_every and self.answered % options.wrong_every == 0
            told = [f"{text}?" for text in texts] if wrong else texts
            connection.answer(told, {"Server-Timing": f"queue;dur=1, infer;dur={seconds * 1000:.3f}"})


class Connection(asyncio.Protocol):
    """HTTP as far as a load generator speaks it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            body = self._buffer[end + 4 : end + 4 + length]
            if len(body) < length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            if not head.startswith(b"post"):
                self._write(404, b"{}", {})
                continue
            given = orjson.loads(body)["input"]
            texts = [given] if isinstance(given, str) else given
            self._service.submit(self, texts, fresh=b"no-cache" in head)

    def answer(self, texts: list[str], headers: dict[str, str]) -> None:
        """The vectors of `texts`."""
        rows = [{"object": "embedding", "index": i, "embedding": vector_of(t)} for i, t in enumerate(texts)]
        tokens = _tokens(texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = orjson.dumps({"object": "list", "model": "queue", "data": rows, "usage": usage})
        self._write(200, body, headers)

    def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        if self._transport is None:
            return
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _tokens(texts: list[str]) -> int:
    return sum(len(text) + 2 for text in texts)


async def main(options: argparse.Namespace) -> None:
    service = Service(options)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", options.port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await service.serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, kind, default in (
        ("fixed", float, 0.0), ("token", float, 0.0), ("cap", int, 160), ("port", int, 0), ("wrong-every", int, 0),
        ("pause-every", float, 0.0), ("pause-for", float, 0.0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--apart", action="store_true", help="no queue: each request is answered after `fixed`")
    uvloop.run(main(parser.parse_args()))
