"""What clients may hold: connections that say nothing, and answers that nobody reads. Over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from uvicorn.middleware.proxy_headers import _TrustedHosts

from slo.serve.connections import MIN_PROGRESS, Connections, believed_proxies, set_nodelay
from slo.serve.install import GC_THRESHOLDS, tune_gc
from tests.serve.test_protocol import connections, ours, post, said, serving

BIG = b"a" * 8_000_000


async def big(scope: Any, receive: Any, send: Any) -> None:
    """More than the kernel buffers."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BIG))]})
    await send({"type": "http.response.body", "body": BIG})


Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs to its end on either loop: the server runs on uvloop, and transports differ in what they buffer."""

    def on_loop(body: Coroutine[Any, Any, None]) -> None:
        loop = request.param()
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(body)
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    return on_loop


async def until(condition: Callable[[], bool]) -> None:
    """As long as it takes, up to a generous deadline."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


def test_idle_connections_make_room_for_new_ones_the_longest_first(run: Run) -> None:
    async def body() -> None:
        kept = connections(most=10)
        async with serving(ours(kept)) as port, contextlib.AsyncExitStack() as stack:
            streams = []
            for number in range(30):
                streams.append(await asyncio.open_connection("127.0.0.1", port))
                stack.callback(streams[-1][1].close)
                await until(partial(lambda count: len(kept) + kept.evicted == count, number + 1))
            assert len(kept) == 10
            assert b"200 OK" in await said(port, [post()])
            for reader, _ in streams[:20]:
                assert await asyncio.wait_for(reader.read(), 20) == b""
            reader, writer = streams[-1]
            writer.write(post())
            assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")

    run(body())


@pytest.mark.parametrize("part", [b"POST /e HTT", post()[:-5]], ids=["head", "body"])
def test_requests_that_never_end_make_room_too(run: Run, part: bytes) -> None:
    async def body() -> None:
        kept = connections(most=5)
        async with serving(ours(kept)) as port, contextlib.AsyncExitStack() as stack:
            for number in range(5):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
                writer.write(part)
                await until(partial(lambda count: len(kept._sending) == count, number + 1))
            for _ in range(20):
                assert b"200 OK" in await said(port, [post()])

    run(body())


def test_a_connection_at_work_is_not_closed_for_another(run: Run) -> None:
    async def body() -> None:
        kept = connections(most=2)
        go = asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

        async with serving(ours(kept), slow) as port:
            at_work = [asyncio.create_task(said(port, [post()])) for _ in range(2)]
            await until(lambda: len(kept) == 2 and not kept._idle and not kept._sending)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
            writer.close()
            go.set()
            assert all(b"200 OK" in answer for answer in await asyncio.gather(*at_work))

    run(body())


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"], ids=["kept alive", "closing"])
def test_a_client_that_does_not_read_is_cut_off(run: Run, close: bytes) -> None:
    async def body() -> None:
        kept = connections(patience_s=0.2)
        async with serving(ours(kept), big) as port:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(post(close))
                await until(lambda: kept.cut_off == 1 and len(kept) == 0)

    run(body())


def test_a_slow_reader_gets_everything(run: Run) -> None:
    async def body() -> None:
        kept = connections(patience_s=0.2)
        async with serving(ours(kept), big) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
            writer.write(post(b"Connection: close\r\n"))
            size = 0
            while chunk := await reader.read(2**18):
                size += len(chunk)
                await asyncio.sleep(0.03)
            writer.close()
        assert size > len(BIG)
        assert kept.cut_off == 0

    run(body())


def test_unsent_bytes_are_bounded_in_all(run: Run) -> None:
    async def body() -> None:
        kept = connections(patience_s=3600, most_unsent=3 * len(BIG))
        async with serving(ours(kept), big) as port, contextlib.AsyncExitStack() as stack:
            for number in range(8):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.sendall(post())
                await until(partial(lambda count: len(kept._stalled) + kept.cut_off == count, number + 1))
            assert kept.cut_off >= 2
            assert sum(each.transport.get_write_buffer_size() for each in kept._stalled) <= kept.most_unsent

    run(body())


class Member:
    """A connection as the book-keeping sees it, with as many unsent bytes as we like."""

    def __init__(self, unsent: int) -> None:
        self.transport = self
        self.unsent = unsent
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


def test_progress_is_judged_from_look_to_look_and_looking_ends() -> None:
    timers: list[Callable[[], None]] = []
    kept = Connections(lambda _, act: timers.append(act), most=10)
    dripping, reading = Member(10 * MIN_PROGRESS), Member(10 * MIN_PROGRESS)
    kept.stalled(dripping)
    kept.stalled(reading)
    assert len(timers) == 1
    dripping.unsent -= 100
    reading.unsent -= 2 * MIN_PROGRESS
    timers.pop()()
    assert (dripping.aborted, reading.aborted) == (True, False)
    reading.unsent = 0
    timers.pop()()
    assert not reading.aborted
    assert not timers


def test_the_limit_of_open_files_is_raised_and_bounds_the_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, 1024));"
        "from slo.serve.connections import most_connections; print(most_connections(), *r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert hard >= 1024
    assert done.stdout.split() == ["768", "1024", "1024"]


def open_descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_listener_and_what_it_accepts_have_no_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert set_nodelay(port) == 1
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_other_sockets_are_left_alone_and_no_descriptor_leaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        before = open_descriptors()
        assert set_nodelay(listener.getsockname()[1]) == 1
        assert open_descriptors() == before
        assert not other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nobody_listening_is_said() -> None:
    assert set_nodelay(1) == 0


def test_the_collector_is_calmed_and_can_be_restored() -> None:
    before = gc.get_threshold()
    undo = tune_gc()
    assert gc.get_threshold() == GC_THRESHOLDS
    undo()
    gc.unfreeze()
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("peer", "listed", "client"),
    [
        ("127.0.0.1", [], "203.0.113.9"),
        ("::1", [], "203.0.113.9"),
        ("::ffff:127.0.0.1", [], "203.0.113.9"),
        ("10.0.0.7", [], None),
        ("10.0.0.7", ["10.0.0.7"], "203.0.113.9"),
        ("::ffff:10.0.0.7", ["10.0.0.0/24"], "203.0.113.9"),
        ("10.0.1.7", ["10.0.0.0/24"], None),
        ("2001:db8::7", ["2001:db8::/32"], "203.0.113.9"),
    ],
)
def test_only_listed_proxies_say_who_the_client_is(peer: str, listed: list[str], client: str | None) -> None:
    trusted = _TrustedHosts(believed_proxies(listed))
    said = trusted.get_trusted_client_address("198.51.100.1, 203.0.113.9")[0] if peer in trusted else None
    assert said == client
