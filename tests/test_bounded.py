"""Answers that never end, drip, swell or come from the wrong place, over real sockets: every reader stops."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from slo.addresses import is_this_machine
from slo.bench.exchange import Exchange
from slo.bench.wire import Pool, target
from slo.bounded import BoundedSession, TooMuch
from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import BadAnswer, RequestError, RequestTimeout, Unreachable
from slo.http import ApiKey, HttpClient, proxy_of
from slo.page_client import PageClient, server_facts
from tests.stub_server import StubServer

Reader = Callable[[str, float], None]
HEAD = b"HTTP/1.1 200 OK\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "body": (HEAD + b"\r\n", b"[" * 65536),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"[" * 65536 + b"\r\n"),
    "announced": (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"[" * 65536),
    "headers": (HEAD, b"X-A: " + b"a" * 60_000 + b"\r\n"),
    "one header": (HEAD + b"X-A: ", b"a" * 65536),
    "informational": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "zipped": (HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"[" * 20_000_000)),
    "zipped well": (
        HEAD + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n",
        gzip.compress(bytes(50_000_000), 9),
    ),
    "deflated": (HEAD + b"Content-Encoding: deflate\r\n\r\n", zlib.compress(bytes(50_000_000))),
}


@contextlib.contextmanager
def saying(first: bytes, then: bytes, *, pause_s: float = 0.0) -> Iterator[str]:
    """The address of a server that says `first` and then `then` again and again, for as long as anybody listens."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(first)
            while not over.wait(pause_s):
                connection.sendall(then)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def embed(address: str, timeout_s: float) -> None:
    with EmbeddingsClient(address, "m", timeout_s=timeout_s) as client:
        client.embed("a")


def fetch(address: str, timeout_s: float) -> None:
    with HttpClient(hint=None, timeout_s=timeout_s) as fetcher:
        fetcher.get(address)


def page(address: str, timeout_s: float) -> None:
    with PageClient(address, timeout_s=timeout_s) as client:
        client.board()


def manage(address: str, timeout_s: float) -> None:
    XinferenceApi(address, timeout_s=timeout_s).models()


READERS: dict[str, Reader] = {
    "client": embed, "fetch": fetch, "page_client": page, "xinference_api": manage,
}  # fmt: skip


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize(("first", "then"), ENDLESS.values(), ids=ENDLESS.keys())
def test_an_answer_without_end_is_left_at_the_bound(
    read: Callable[[str, float], None], first: bytes, then: bytes
) -> None:
    tracemalloc.start()
    try:
        with saying(first, then) as address, pytest.raises((BadAnswer, RequestTimeout, Unreachable)):
            read(address, 3.0)
        assert tracemalloc.get_traced_memory()[1] < 150e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize(
    ("first", "then"), [(HEAD + b"\r\n", b"["), (HEAD + b"X-A: ", b"a"), (HEAD, b"A: b\r\n"), (b"", b"H")],
    ids=["body", "header", "headers", "status line"],
)  # fmt: skip
def test_an_answer_that_drips_ends_at_the_deadline(
    read: Callable[[str, float], None], first: bytes, then: bytes
) -> None:
    with saying(first, then, pause_s=0.02) as address, pytest.raises(RequestError) as caught:
        read(address, 0.4)
    assert isinstance(caught.value, RequestTimeout)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02F", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_not_nobody(said: bytes) -> None:
    with saying(said, b"\r\n") as address, pytest.raises(BadAnswer, match="does not speak HTTP"):
        fetch(address, 20.0)


def test_facts_are_left_out_when_they_have_no_end() -> None:
    with saying(*ENDLESS["body"]) as address:
        assert server_facts(address, "m") == {}


def test_an_answer_zipped_unasked_is_understood() -> None:
    for packing, packed in (("gzip", gzip.compress(b"hello")), ("deflate", zlib.compress(b"hello"))):
        head = HEAD + f"Content-Encoding: {packing}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
        with saying(head + packed, b""), saying(head + packed, b"", pause_s=60) as address, BoundedSession() as session:
            assert session.get(address, timeout=20).content == b"hello"


def test_we_ask_for_plain_answers_and_keep_the_connection() -> None:
    with StubServer() as server, BoundedSession(max_bytes=100_000) as session:
        for _ in range(3):
            assert session.post(f"{server.endpoint}/v1/embeddings", json={"input": "a"}, timeout=20).status_code == 200
        assert {seen.headers.get("accept-encoding") for seen in server.requests} == {"identity"}
        assert server.connections == 1
        session.max_bytes = 10
        with pytest.raises(TooMuch):
            session.post(f"{server.endpoint}/v1/embeddings", json={"input": "a"}, timeout=20)


@pytest.mark.parametrize(("first", "then"), [ENDLESS["body"], ENDLESS["headers"], ENDLESS["chunks"]])
async def test_load_stops_reading_too(first: bytes, then: bytes) -> None:
    done: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
    with saying(first, then) as address:
        pool = Pool(target(address, "m", timeout_s=60), limit=1, clock=SystemClock())
        pool.on_done = done.set_result
        exchange = Exchange(b"{}", "short")
        exchange.due_s = SystemClock().monotonic()
        pool.submit(exchange)
        assert (await asyncio.wait_for(done, 30)).outcome == "bad_answer"
        assert exchange.answer == b""
        await pool.close()


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            pytest.skip("no network interface")
        return str(probe.getsockname()[0])


def test_a_proxy_does_not_stand_between_us_and_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    host = own_address()
    monkeypatch.setenv("http_proxy", "http://user:geheim@127.0.0.1:1")
    with socket.create_server((host, 0)) as listener:

        def answer() -> None:
            connection = listener.accept()[0]
            with connection:
                connection.recv(65536)
                connection.sendall(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with HttpClient(hint=None, timeout_s=20) as fetcher:
            assert fetcher.get(f"http://{host}:{listener.getsockname()[1]}/") == b"ok"
        thread.join()


def test_a_proxy_serves_other_machines_within_the_same_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    answer = HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
    with saying(answer, b"", pause_s=60) as address, HttpClient(hint=None, timeout_s=20) as fetcher:
        monkeypatch.setenv("http_proxy", address)
        assert fetcher.get("http://192.0.2.1/metrics") == b"ok"
    with saying(HEAD + b"\r\n", b"[" * 65536) as address, HttpClient(hint=None, timeout_s=20) as fetcher:
        monkeypatch.setenv("http_proxy", address)
        with pytest.raises(BadAnswer):
            fetcher.get("http://192.0.2.1/metrics")


def test_a_proxy_that_fails_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:geheim@127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with EmbeddingsClient("http://192.0.2.1:9997", "m") as client, pytest.raises(Unreachable) as caught:
        client.embed("a")
    assert "through the proxy 127.0.0.1:1" in caught.value.message
    assert "no_proxy" in (caught.value.hint or "")
    assert "geheim" not in str(caught.value)
    assert proxy_of("http://192.0.2.1:9997") == "127.0.0.1:1"


def test_which_names_are_this_machine() -> None:
    assert is_this_machine("127.0.0.1")
    assert is_this_machine(own_address())
    assert not is_this_machine("192.0.2.1")
    assert not is_this_machine("no-such-host.invalid")
    assert not is_this_machine("a..b")


def test_a_netrc_does_not_replace_our_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login somebody password else\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr("slo.addresses.is_this_machine", lambda _: False)
    with StubServer(api_key="k") as server:
        with EmbeddingsClient(server.endpoint, "m", api_key=ApiKey("k", "a test")) as client:
            client.embed("a")
        assert [seen.headers["authorization"] for seen in server.requests] == ["Bearer k"]


def test_a_failure_of_requests_that_has_no_name_is_a_bad_answer() -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise requests.exceptions.ContentDecodingError("odd")

    with EmbeddingsClient("http://127.0.0.1:1", "m") as client:
        client.session.request = broken  # type: ignore[method-assign,assignment]
        with pytest.raises(BadAnswer):
            client.embed("a")
