import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slo.client import EmbeddingsClient, cosine, embeddings_url
from slo.errors import ConfigError, RequestError, RequestTimeout, Unreachable
from slo.http import ApiKey, find_api_key
from tests.stub_server import Reply, StubServer, embeddings, vector_of

TIMEOUT_S = 0.3


def rows(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}


GOOD = [0.1] * 8

# How the server behaves → the outcome that is counted, and a word that the message must hold.
FAILURES: dict[str, tuple[Reply, str, str]] = {
    "401": (Reply(status=401, body={"detail": "no key"}), "unauthorized", "no API key was given"),
    "403": (Reply(status=403, body={"detail": "wrong scope"}), "unauthorized", "wrong scope"),
    "429": (Reply(status=429, body={"detail": "busy"}, headers={"Retry-After": "2"}), "refused", "busy"),
    "ban": (
        Reply(status=429, body={"detail": "Too many failed attempts. IP temporarily banned."}),
        "unauthorized",
        "locked out",
    ),
    "400": (Reply(status=400, body={"detail": "odd"}), "bad_request", "odd"),
    "404": (Reply(status=404, body={"detail": "no model"}), "bad_request", "'stub' the name of a running model"),
    "redirect": (Reply(status=302, headers={"Location": "/x"}), "bad_request", "302"),
    "500": (Reply(status=500, body={"error": {"message": "out of memory"}}), "server_fault", "out of memory"),
    "503 in plain text": (Reply(status=503, body=b"loading"), "server_fault", "loading"),
    "502 without a word": (Reply(status=502, body=b""), "server_fault", "(no message)"),
    "slow": (Reply(delay_s=5), "timeout", "within 0.3 s"),
    "body stalls": (Reply(fault="stall", delay_s=5), "timeout", "broke off"),
    "reset": (Reply(fault="reset"), "unreachable", "nobody answers"),
    "truncated": (Reply(fault="truncate"), "bad_answer", "while reading"),
    "no content": (Reply(status=204, body=b""), "bad_answer", "not an embeddings answer"),
    "no JSON": (Reply(body=b"<html>"), "bad_answer", "not an embeddings answer"),
    "a list": (Reply(body=[1]), "bad_answer", "not an embeddings answer"),
    "no data": (Reply(body={"object": "list"}), "bad_answer", "not an embeddings answer"),
    "too few": (Reply(body=rows(GOOD)), "bad_answer", "1 vectors for 2 texts"),
    "too many": (Reply(body=rows(GOOD, GOOD, GOOD)), "bad_answer", "3 vectors for 2 texts"),
    "wrong dimension": (Reply(body=rows(GOOD, GOOD[1:])), "bad_answer", "7 dimensions instead of 8"),
    "empty vector": (Reply(body=rows(GOOD, [])), "bad_answer", "empty"),
    "text for a vector": (Reply(body=rows(GOOD, "base64==")), "bad_answer", "not a list"),
    "text in a vector": (Reply(body=rows(GOOD, ["0.1"] * 8)), "bad_answer", "not a number"),
    "null in a vector": (Reply(body=rows(GOOD, [None] * 8)), "bad_answer", "not a number"),
    "NaN": (Reply(body=b'{"data":[{"index":0,"embedding":[NaN]}]}'), "bad_answer", "not an embeddings answer"),
    "infinity": (Reply(body=rows(GOOD, [1e308] * 8)), "bad_answer", "NaN or infinity"),
}


@pytest.fixture
def server() -> Iterator[StubServer]:
    with StubServer() as stub:
        yield stub


def failure_of(server: StubServer, reply: Reply, *, api_key: ApiKey | None = None) -> RequestError:
    server.script = lambda _n, _texts: reply
    with (
        EmbeddingsClient(server.endpoint, "stub", api_key=api_key, timeout_s=TIMEOUT_S) as client,
        pytest.raises(RequestError) as caught,
    ):
        client.embed(["你好", "世界"], dimension=8)
    return caught.value


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_server_does_wrong_becomes_one_of_our_errors(server: StubServer, name: str) -> None:
    reply, outcome, words = FAILURES[name]
    error = failure_of(server, reply)
    assert error.outcome == outcome
    assert words in str(error)
    assert error.url == f"{server.endpoint}/v1/embeddings"
    assert len(server.requests) == 1  # a request never retries


def test_the_table_above_reaches_every_kind_of_request_error() -> None:
    assert {outcome for _, outcome, _ in FAILURES.values()} == {cls.outcome for cls in RequestError.__subclasses__()}


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with EmbeddingsClient(f"http://127.0.0.1:{port}", "m") as client, pytest.raises(Unreachable) as caught:
        client.embed("你好")
    assert caught.value.exit_code == 1


def test_a_host_that_does_not_exist_is_unreachable() -> None:
    with EmbeddingsClient("http://nowhere.invalid", "m", timeout_s=5) as client, pytest.raises(RequestError) as caught:
        client.embed("你好")
    assert isinstance(caught.value, Unreachable | RequestTimeout)


def test_advice_of_the_server_to_wait_is_kept(server: StubServer) -> None:
    assert failure_of(server, Reply(status=429, headers={"Retry-After": "2"})).retry_after_s == 2.0
    assert failure_of(server, Reply(status=503, headers={"Retry-After": "tomorrow"})).retry_after_s is None


def test_a_rejected_key_is_named_by_its_origin_and_never_shown(server: StubServer) -> None:
    error = failure_of(server, Reply(status=401), api_key=ApiKey("sk-marker", "the vault"))
    assert "API key from the vault" in str(error)
    assert "sk-marker" not in str(error) + repr(error) + repr(vars(error))


def test_vectors_come_in_the_order_of_the_texts_whatever_the_order_of_the_rows(server: StubServer) -> None:
    body = embeddings(["甲", "乙"], 8)
    body["data"].reverse()
    server.script = lambda _n, _texts: Reply(body=body)
    with EmbeddingsClient(server.endpoint, "stub") as client:
        answer = client.embed(["甲", "乙"])
    assert answer.vectors == [vector_of("甲", 8), vector_of("乙", 8)]
    assert answer.tokens == 2


def test_a_single_text_is_sent_as_one_and_needs_no_usage_in_the_answer(server: StubServer) -> None:
    server.script = lambda _n, _texts: Reply(body=rows(GOOD))
    with EmbeddingsClient(server.endpoint, "stub") as client:
        answer = client.embed("你好", dimension=8)
    assert (answer.vectors, answer.tokens) == ([GOOD], None)
    assert server.requests[0].body == {"model": "stub", "input": "你好"}


def test_a_hit_of_a_cache_is_seen(server: StubServer) -> None:
    server.script = lambda n, _texts: Reply(headers={"Cache-Status": "slo; hit" if n else "slo; fwd=miss"})
    with EmbeddingsClient(server.endpoint, "stub") as client:
        assert [client.embed("你好").cached for _ in range(2)] == [False, True]


def test_a_connection_is_kept_alive(server: StubServer) -> None:
    with EmbeddingsClient(server.endpoint, "stub") as client:
        for _ in range(5):
            client.embed("你好")
    assert server.connections == 1


def test_key_and_prefix_reach_a_server_that_wants_them() -> None:
    with (
        StubServer(prefix="/openai/v1", api_key="sk-1") as server,
        EmbeddingsClient(server.endpoint, "stub", api_key=ApiKey("sk-1", "here")) as client,
    ):
        assert len(client.embed("你好").vectors) == 1
        assert server.requests[0].path == "/openai/v1/embeddings"


def test_a_proxy_of_the_environment_does_not_come_between_us_and_this_machine(
    server: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with EmbeddingsClient(server.endpoint, "stub") as client:
        assert client.embed("你好").vectors


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:9997", "http://h:9997/v1/embeddings"),
        ("http://h:9997/", "http://h:9997/v1/embeddings"),
        ("http://h/v1", "http://h/v1/embeddings"),
        ("https://h/openai/v1/", "https://h/openai/v1/embeddings"),
        ("https://h/openai", "https://h/openai/v1/embeddings"),
        ("http://h/v1/embeddings", "http://h/v1/embeddings"),
        ("http://[::1]:1", "http://[::1]:1/v1/embeddings"),
    ],
)
def test_any_way_to_write_an_endpoint_leads_to_one_address(endpoint: str, url: str) -> None:
    assert embeddings_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["", "h:9997", "ftp://h", "http://", "http://h/v1?key=1", "http://h/#x"])
def test_what_is_no_http_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError):
        embeddings_url(endpoint)


def test_a_password_in_an_address_is_refused_without_repeating_it() -> None:
    with pytest.raises(ConfigError) as caught:
        embeddings_url("http://user:marker@h")
    assert "marker" not in str(caught.value)


def test_the_key_comes_from_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from-file\n", encoding="utf-8")
    file.chmod(0o600)
    assert find_api_key(file, environ={}) == ApiKey("from-file", str(file))
    assert find_api_key(file, environ={"SLO_API_KEY": " sk "}) == ApiKey("sk", "environment variable SLO_API_KEY")
    assert find_api_key(tmp_path / "none", environ={}) is None
    assert find_api_key(environ={}) is None


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("marker", encoding="utf-8")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="readable by others") as caught:
        find_api_key(file, environ={})
    assert "marker" not in str(caught.value)


def test_an_empty_key_file_is_no_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    assert find_api_key(file, environ={}) is None


def test_a_key_never_prints() -> None:
    key = ApiKey("marker", "the vault")
    assert "marker" not in f"{key} {key!r}"


@pytest.mark.parametrize(
    ("a", "b", "similarity"),
    [([1, 0], [0, 1], 0.0), ([1, 2], [2, 4], 1.0), ([1, 0], [-1, 0], -1.0), ([0, 0], [1, 1], 0.0)],
)
def test_cosine_is_that_of_the_angle(a: list[float], b: list[float], similarity: float) -> None:
    assert cosine(a, b) == pytest.approx(similarity)


def test_cosine_of_different_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        cosine([1.0], [1.0, 2.0])
