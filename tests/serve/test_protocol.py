"""What HTTP libraries send, over raw sockets: our protocol class answers as stock's h11 does, or better."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from slo.serve.connections import Connections
from slo.serve.protocol import MAX_HEAD, protocol_class

BODY = b'{"input":"a"}'
LENGTH = b"Content-Length: 13\r\n"
HOST = b"Host: x\r\n"
# After every case: what follows on the connection must be understood, too.
LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"


def post(headers: bytes = b"", body: bytes = BODY, *, path: bytes = b"/e", version: bytes = b"1.1") -> bytes:
    return b"POST " + path + b" HTTP/" + version + b"\r\n" + HOST + headers + LENGTH + b"\r\n" + body


def chunked(headers: bytes = b"", chunks: bytes = CHUNKS, coding: bytes = CHUNKED) -> bytes:
    return b"POST /e HTTP/1.1\r\n" + HOST + headers + coding + b"\r\n" + chunks


AS_STOCK: dict[str, list[bytes]] = {
    "plain": [post()],
    "in single bytes": [bytes([byte]) for byte in post()],
    "h2c, as Java's HttpClient offers it": [post(H2C)],
    "h2c, the body later": [post(H2C, b""), BODY[:5], BODY[5:]],
    "h2c in single bytes": [bytes([byte]) for byte in post(H2C)],
    "h2c, chunked": [chunked(H2C)],
    "h2c without a body": [b"GET /e HTTP/1.1\r\n" + HOST + H2C + b"\r\n"],
    "h2c twice in one piece": [post(H2C) * 2],
    "h2c, then plain, then h2c": [post(H2C) + post() + post(H2C)],
    "h2c and Expect": [post(H2C + b"Expect: 100-continue\r\n", b""), BODY],
    "h2c in HTTP/1.0": [post(H2C, version=b"1.0")],
    "h2c and close": [post(b"Connection: close, Upgrade\r\nUpgrade: h2c\r\n")],
    "another upgrade": [post(b"Connection: upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n")],
    "Connection in two lines": [post(b"Connection: Upgrade\r\nConnection: HTTP2-Settings\r\nUpgrade: h2c\r\n")],
    "Upgrade without Connection": [post(b"Upgrade: h2c\r\n")],
    "Connection without Upgrade": [post(b"Connection: upgrade\r\n")],
    "keep-alive in capitals": [post(b"Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n")],
    "close in a list": [post(b"Connection: TE, close\r\nTE: trailers\r\n")],
    "close in capitals": [post(b"Connection: CLOSE\r\n")],
    "HTTP/1.0": [post(version=b"1.0")],
    "HTTP/1.0, keep-alive": [post(b"Connection: keep-alive\r\n", version=b"1.0")],
    "HTTP/1.0, Expect": [post(b"Expect: 100-continue\r\n", version=b"1.0")],
    "HTTP/1.0, an answer without a length": [b"GET /stream HTTP/1.0\r\n\r\n"],
    "HTTP/1.0, HEAD of one": [b"HEAD /stream HTTP/1.0\r\n\r\n"],
    "an answer without a length": [b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"],
    "Expect": [post(b"Expect: 100-continue\r\n", b""), BODY],
    "Expect in capitals": [post(b"Expect: 100-Continue\r\n", b""), BODY],
    "Expect, body at once": [post(b"Expect: 100-continue\r\n")],
    "Expect of something else": [post(b"Expect: something\r\n")],
    "answered before the body": [post(b"", path=b"/early")],
    "answered, then the body": [post(b"", b"", path=b"/early"), BODY],
    "folded header": [post(b"X-A: one\r\n two\r\n")],
    "folded length": [b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 13\r\n\r\n" + BODY],
    "blanks around a value": [post(b"X-A:  v \t\r\n")],
    "empty value": [post(b"X-A:\r\n")],
    "Latin-1 value": [post(b"X-A: \xe4\r\n")],
    "UTF-8 value": [post("X-A: 中\r\n".encode())],
    "control character in a value": [post(b"X-A: a\x01b\r\n")],
    "NUL in a value": [post(b"X-A: a\x00b\r\n")],
    "blank before the colon": [post(b"X-A : b\r\n")],
    "no Host": [b"POST /e HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY],
    "two Hosts": [post(b"Host: y\r\n")],
    "chunked": [chunked()],
    "chunked in capitals": [chunked(coding=b"transfer-encoding: Chunked\r\n")],
    "chunk extension": [chunked(chunks=b"d;name=value\r\n" + BODY + b"\r\n0\r\n\r\n")],
    "trailers": [chunked(b"Trailer: Authorization\r\n", b"d\r\n" + BODY + b"\r\n0\r\nAuthorization: Bearer x\r\n\r\n")],
    "neither length nor chunks": [b"POST /e HTTP/1.1\r\nHost: x\r\n\r\n"],
    "two different lengths": [post(b"Content-Length: 12\r\n")],
    "a length with a sign": [b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: +13\r\n\r\n" + BODY],
    "percent and query": [post(path=b"/%E4%B8%AD?a=%20&b=c?d")],
    "odd characters in the path": [post(path=b'/e[]|{}^"<>')],
    "UTF-8 in the path": [post(path="/中".encode())],
    "HEAD": [b"HEAD /e HTTP/1.1\r\nHost: x\r\n\r\n"],
    "OPTIONS *": [b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"],
    "three in one piece": [post() * 3],
    "data after close": [post(b"Connection: close\r\n") + b"rest"],
    "a websocket, where none is spoken": [post(b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n")],
    "a long header": [post(b"X-A: " + b"a" * 50_000 + b"\r\n")],
}

# Where stock is wrong or too generous: pieces, then statuses and the first request that the app saw.
BETTER: dict[str, tuple[list[bytes], list[int], dict[str, Any]]] = {
    "absolute URI": ([post(path=b"http://x:80/e?a=1")], [200, 200], {"path": "/e", "query": "a=1"}),
    "absolute URI without a path": ([post(path=b"http://x:80")], [200, 200], {"path": "/", "body": BODY.decode()}),
    "empty line before": ([b"\r\n" + post()], [200, 200], {"path": "/e"}),
    "empty line after": ([post() + b"\r\n"], [200, 200], {"path": "/e"}),
    "another transfer coding": ([chunked(coding=b"Transfer-Encoding: gzip, chunked\r\n")], [501], {}),
    "chunks and a length": ([chunked(LENGTH)], [400], {}),
    "CONNECT": ([b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"], [400], {}),
    "HTTP/2 by prior knowledge": ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], [400], {}),
    "too long a header": ([post(b"X-A: " + b"a" * MAX_HEAD + b"\r\n")], [431], {}),
    "a header without end": ([b"POST /e HTTP/1.1\r\nHost: x\r\nX-A: ", *[b"a" * 30_000] * 3], [431], {}),
    "too many headers": ([post(b"".join(b"X-%d: abc\r\n" % i for i in range(9000)))], [431], {}),
    "a trailer without end": ([chunked(chunks=b"d\r\n" + BODY + b"\r\n0\r\nX: "), *[b"a" * 30_000] * 3], [431], {}),
}  # fmt: skip


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Tells what it was sent; `/stream` answers without a length, `/early` before it has read the body."""
    if scope["type"] != "http":
        return
    body = b""
    more = scope["path"] != "/early"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        return
    seen = {
        "method": scope["method"], "path": scope["path"], "query": scope["query_string"].decode(),
        "version": scope["http_version"], "body": body.decode(),
        "headers": [(name.decode(), value.decode("latin-1").lower()) for name, value in scope["headers"]
                    if name != b"upgrade"],
    }  # fmt: skip
    text = json.dumps(seen).encode() + b"\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


def ours(kept: Connections | None = None) -> type[Any]:
    """The class under test."""
    return protocol_class(None, connections() if kept is None else kept)


def connections(most: int = 100, **bounds: Any) -> Connections:
    return Connections(lambda s, act: asyncio.get_running_loop().call_later(s, act), most=most, **bounds)


@contextlib.asynccontextmanager
async def serving(protocol: type[Any], app: Any = echo) -> AsyncIterator[int]:
    """The port of a real uvicorn server with that protocol class."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=protocol, lifespan="off", log_config=None, date_header=False, server_header=False
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield listener.getsockname()[1]
        server.should_exit = server.force_exit = True
        await task


async def said(port: int, pieces: list[bytes]) -> bytes:
    """All that comes back for `pieces`, sent one by one, and for `LAST` after them, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    read = asyncio.create_task(reader.read(-1))
    with contextlib.suppress(OSError):
        for piece in [*pieces, LAST]:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01 if len(pieces) < 5 else 0)
    try:
        return await asyncio.wait_for(read, 20)
    finally:
        writer.close()


def meaning(answer: bytes) -> tuple[list[int], list[Any], bytes]:
    """Statuses, what the app saw each time, and the body of an answer without a length."""
    statuses = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    seen = [json.loads(line) for line in re.findall(rb'\{"method".*\n', answer)]
    streamed = answer.rpartition(b"\r\n\r\n")[2] if b"two" in answer else b""
    return statuses, seen, streamed


@pytest.mark.parametrize("pieces", AS_STOCK.values(), ids=AS_STOCK.keys())
async def test_whatever_a_library_sends_is_answered_as_by_stock(pieces: list[bytes]) -> None:
    async with serving(H11Protocol) as stock, serving(ours()) as port:
        theirs, answer = await said(stock, pieces), await said(port, pieces)
    assert meaning(answer) == meaning(theirs)


@pytest.mark.parametrize(("pieces", "statuses", "first"), BETTER.values(), ids=BETTER.keys())
async def test_what_stock_gets_wrong(pieces: list[bytes], statuses: list[int], first: dict[str, Any]) -> None:
    async with serving(ours()) as port:
        got, seen, _ = meaning(await said(port, pieces))
    assert got == statuses
    assert not first or first.items() <= seen[0].items()


async def test_a_long_body_and_many_requests_are_no_long_head() -> None:
    pieces = [post(b"", b"", path=b"/e").replace(b"13", b"3000000"), *[b"a" * 30_000] * 100]
    async with serving(ours()) as port:
        statuses, seen, _ = meaning(await said(port, pieces))
        many, _, _ = meaning(await said(port, [post() * 2000]))
    assert statuses == [200, 200]
    assert len(seen[0]["body"]) == 3_000_000
    assert many == [200] * 2001
