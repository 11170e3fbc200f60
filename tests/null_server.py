"""
A server that answers at once, to measure a load generator's own cost: `python tests/null_server.py [DIMENSIONS]`.

Every POST gets one canned embeddings answer, but for its first number. Prints its port on the first line of stdout and
runs until killed.
"""

from __future__ import annotations

import asyncio
import sys

import orjson
import uvloop

PLACE = b"0.138000000"


def canned(dimensions: int) -> bytes:
    vector = [round((-1) ** i * (0.01 + 0.9 / (i + 7)), 9) for i in range(dimensions)]
    body = orjson.dumps(
        {
            "object": "list",
            "model": "null",
            "data": [{"index": 0, "object": "embedding", "embedding": vector}],
            "usage": {"prompt_tokens": 1, "total_tokens": 1},
        }
    )
    body = body.replace(str(vector[0]).encode(), PLACE, 1)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


class Null(asyncio.Protocol):
    """Counts whole requests by their Content-Length and answers each."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._buffer = b""
        self._count = id(self) // 64 % 1_000_000  # distinct texts must have distinct vectors

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._count = (self._count + 1) % 1_000_000
            self._transport.write(self._answer.replace(PLACE, b"0.138%06d" % self._count, 1))


async def serve(dimensions: int) -> None:
    answer = canned(dimensions)
    server = await asyncio.get_running_loop().create_server(lambda: Null(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 768))
