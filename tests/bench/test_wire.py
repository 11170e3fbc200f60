"""Every exchange ends exactly once, whatever the server does, and connections stay within their bound."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson
import pytest

from slo.bench.answers import decode
from slo.bench.exchange import Exchange
from slo.bench.wire import Pool, Target, target
from slo.clock import SystemClock
from slo.errors import ConfigError
from slo.http import ApiKey
from tests.stub_server import Reply, Script, StubServer


def body(text: str) -> bytes:
    return orjson.dumps({"model": "stub", "input": text})


async def ask(to: Target, count: int, *, limit: int = 4, gap_s: float = 0.0) -> tuple[list[Exchange], Pool]:
    """`count` exchanges through one pool, all submitted before the first answer unless `gap_s` lies between."""
    clock, ended = SystemClock(), asyncio.Queue[Exchange]()
    pool = Pool(to, limit=limit, clock=clock)
    pool.on_done = ended.put_nowait
    sent = []
    for number in range(count):
        exchange = Exchange(body(f"文本{number}"), "short")
        exchange.due_s = exchange.dispatched_s = clock.monotonic()
        exchange.sequence = number
        sent.append(exchange)
        pool.submit(exchange)
        if gap_s:
            await asyncio.sleep(gap_s)
    async with asyncio.timeout(10) if hasattr(asyncio, "timeout") else _Nothing():
        heard = [await ended.get() for _ in range(count)]
    await asyncio.sleep(0.05)
    assert ended.empty()
    assert {id(e) for e in heard} == {id(e) for e in sent}
    await pool.close()
    return sent, pool


class _Nothing:
    async def __aenter__(self) -> None:
        """Python 3.10 has no `asyncio.timeout`; the test's own limit must do."""

    async def __aexit__(self, *_: object) -> None:
        """Nothing to undo."""


async def asked(script: Script, count: int = 1, *, limit: int = 4, timeout_s: float = 5.0) -> list[Exchange]:
    with StubServer(script=script) as server:
        sent, _ = await ask(target(server.endpoint, "stub", timeout_s=timeout_s), count, limit=limit)
    return sent


async def test_answers_belong_to_their_requests() -> None:
    with StubServer() as server:
        sent, pool = await ask(target(server.endpoint, "stub"), 40)
        assert server.connections <= 4
    assert pool.peak_connections == 4
    assert len({exchange.answer for exchange in sent}) == 40
    assert all(decode(exchange.answer, 1) is not None for exchange in sent)
    assert all(exchange.outcome == "ok" and exchange.status == 200 for exchange in sent)


async def test_a_connection_is_kept_alive() -> None:
    with StubServer() as server:
        await ask(target(server.endpoint, "stub"), 10, gap_s=0.01)
        assert server.connections <= 2


async def test_waiting_for_a_connection_counts_from_due_but_not_as_service() -> None:
    sent = await asked(lambda _n, _t: Reply(delay_s=0.1), 3, limit=1)
    last = sent[-1].sample()
    assert last.latency_ms > 290
    assert last.service_ms > 90
    assert last.latency_ms - last.service_ms > 190, "the two before it"


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (Reply(status=429, headers={"Retry-After": "1"}), "refused"),
        (Reply(status=503), "server_fault"),
        (Reply(status=401), "unauthorized"),
        (Reply(status=400), "bad_request"),
        (Reply(fault="reset"), "unreachable"),
        (Reply(fault="truncate"), "unreachable"),
        (Reply(status=204, body=b""), "ok"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_goes_wrong_is_an_outcome(reply: Reply, outcome: str) -> None:
    sent = await asked(lambda _n, _t: reply, 5)
    assert {exchange.outcome for exchange in sent} == {outcome}
    assert all(exchange.answer == b"" or outcome == "ok" for exchange in sent)


async def test_a_failure_does_not_spoil_the_next_request() -> None:
    sent = await asked(lambda n, _t: Reply(fault="reset") if n % 2 else Reply(), 20, limit=2)
    outcomes = [exchange.outcome for exchange in sent]
    assert outcomes.count("ok") == outcomes.count("unreachable") == 10


@pytest.mark.parametrize("fault", ["stall", "trickle"])
async def test_a_timeout_ends_at_the_deadline_and_its_connection_is_not_used_again(fault: str) -> None:
    def script(n: int, _texts: list[str]) -> Reply:
        return Reply(fault=fault, delay_s=0.6) if n == 0 else Reply()  # type: ignore[arg-type]

    sent = await asked(script, 3, limit=1, timeout_s=0.3)
    assert sent[0].outcome == "timeout"
    assert sent[0].latency_s == pytest.approx(0.3, abs=1e-6)
    assert all(exchange.outcome in ("ok", "timeout") for exchange in sent[1:])


async def test_a_request_that_never_got_a_connection_times_out() -> None:
    sent = await asked(lambda _n, _t: Reply(delay_s=1.0), 3, limit=1, timeout_s=0.2)
    assert [exchange.outcome for exchange in sent] == ["timeout"] * 3
    assert sent[-1].sent_s == sent[-1].done_s


async def test_nobody_listening_is_unreachable_for_all_and_says_why() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    sent, pool = await ask(target(f"http://127.0.0.1:{port}", "stub"), 9, limit=2)
    assert {exchange.outcome for exchange in sent} == {"unreachable"}
    assert "refused" in pool.last_error or "Connect call failed" in pool.last_error


async def test_the_cache_and_the_stages_are_read_from_the_headers() -> None:
    headers = {"Cache-Status": "slo; hit", "Server-Timing": "infer;dur=3"}
    (exchange,) = await asked(lambda _n, _t: Reply(headers=headers))
    assert exchange.cached
    assert exchange.timing == b"infer;dur=3"


async def test_a_miss_is_not_a_hit() -> None:
    (exchange,) = await asked(lambda _n, _t: Reply(headers={"Cache-Status": "slo; fwd=miss"}))
    assert not exchange.cached


async def test_the_key_and_extra_headers_are_sent() -> None:
    with StubServer(api_key="s3cret") as server:
        url, key = f"{server.endpoint}/v1/embeddings", ApiKey("s3cret", "test")
        to = Target(url=url, model="stub", api_key=key, headers=(("X-A", "b"),))
        (exchange,), _ = await ask(to, 1)
        assert server.requests[0].headers["x-a"] == "b"
    assert exchange.outcome == "ok"


async def test_closing_ends_what_is_under_way() -> None:
    with StubServer(script=lambda _n, _t: Reply(delay_s=5)) as server:
        pool = Pool(target(server.endpoint, "stub"), limit=1, clock=SystemClock())
        heard: list[Exchange] = []
        pool.on_done = heard.append
        for _ in range(3):
            exchange = Exchange(body("x"), "short")
            exchange.due_s = SystemClock().monotonic()
            pool.submit(exchange)
        await asyncio.sleep(0.1)
        await pool.close()
    assert [exchange.outcome for exchange in heard] == ["unreachable"] * 3


RAW = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "until closed": b"HTTP/1.1 200 OK\r\n\r\nhello world",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 11\r\n\r\nhello world",
}


@pytest.mark.parametrize("name", RAW)
async def test_bodies_come_in_every_framing(name: str) -> None:
    with raw_server(lambda: RAW[name]) as endpoint:
        sent, _ = await ask(target(endpoint, "stub"), 3, limit=1)
    assert [exchange.answer for exchange in sent] == [b"hello world"] * 3
    assert {exchange.outcome for exchange in sent} == {"ok"}


async def test_what_is_not_http_is_a_bad_answer() -> None:
    with raw_server(lambda: b"SSH-2.0-OpenSSH\r\n") as endpoint:
        sent, _ = await ask(target(endpoint, "stub"), 2, limit=1)
    assert {exchange.outcome for exchange in sent} == {"bad_answer"}


@contextmanager
def raw_server(answer: Callable[[], bytes]) -> Iterator[str]:
    """Answers every read with `answer()`; closes after it where the framing needs that."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while connection.recv(65536):
                    connection.sendall(answer())
                    if b"chunked" not in answer():
                        break

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError):
        target("ftp://x", "stub")
