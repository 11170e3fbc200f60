"""What others' clients can send: headers, more fields, a query in the address, a connection per request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slo.cli.main import cli, run
from slo.client import embeddings_url, server_address
from slo.errors import ConfigError
from tests.bench.test_load import load, session
from tests.stub_server import StubServer

AZURE = "https://h/openai/deployments/x"


@pytest.mark.parametrize(
    ("endpoint", "url", "address"),
    [
        (f"{AZURE}?api-version=2024-02-01", f"{AZURE}/embeddings?api-version=2024-02-01", AZURE),
        (f"{AZURE}/embeddings?api-version=1", f"{AZURE}/embeddings?api-version=1", AZURE),
        ("http://h:1/v1/?a=b", "http://h:1/v1/embeddings?a=b", "http://h:1"),
        ("http://h:1/", "http://h:1/v1/embeddings", "http://h:1"),
    ],
)
def test_an_address_may_have_a_query(endpoint: str, url: str, address: str) -> None:
    assert embeddings_url(endpoint) == url
    assert server_address(endpoint) == address


@pytest.mark.parametrize("query", ["key=s3cret", "Code=s3cret", "a=1&sig=s3cret", "token="])
def test_but_no_secret_since_it_is_recorded(query: str) -> None:
    with pytest.raises(ConfigError, match="contains a secret") as found:
        embeddings_url(f"http://h/v1?{query}")
    assert "s3cret" not in str(found.value)


@pytest.fixture
def slo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *words: run(cli, list(words))


QUICK = ("--rate", "40", "--duration", "1s", "--warmup", "0", "--model", "stub")


@pytest.mark.parametrize("command", [("load", *QUICK), ("baseline", "--model", "stub", "--requests", "5")])
def test_headers_and_fields_go_out_and_no_value_is_kept(
    slo: Any, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    with StubServer() as server:
        words = ("--header", "api-key: s3cret-1", "--header", "X-Team: search", "--extra-body", '{"dimensions": 8}')
        assert slo(*command, "--endpoint", server.endpoint, *words, "--objective", "p90 <= 3s") in (0, 3)
        assert all(seen.headers["api-key"] == "s3cret-1" for seen in server.requests)
        assert all(seen.body["dimensions"] == 8 and seen.body["model"] == "stub" for seen in server.requests)
    out, err = capsys.readouterr()
    kept = "".join(path.read_text() for path in Path(".slo/runs").glob("*.json"))
    assert "s3cret" not in out + err + kept
    (record,) = [json.loads(path.read_text()) for path in Path(".slo/runs").glob("*.json")]
    assert (record["objective"]["target"], record["objective"]["threshold_ms"]) == (0.9, 3000)


@pytest.mark.parametrize(
    "words",
    [
        ("--header", "no colon s3cret"), ("--header", "Host: s3cret"), ("--header", "A: s3cret\r\nB: c"),
        ("--extra-body", "{"), ("--extra-body", "[1]"), ("--extra-body", '{"input": "s3cret"}'),
        ("--objective", "fast"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused(slo: Any, capsys: pytest.CaptureFixture[str], words: tuple[str, str]) -> None:
    assert slo("load", *QUICK, "--endpoint", "http://127.0.0.1:1", *words) == 2
    assert "s3cret" not in capsys.readouterr().err


def test_a_header_of_ones_own_takes_the_place_of_the_key() -> None:
    with StubServer() as server:
        to = session(server.endpoint)
        head = replace(to.target, headers=(("Authorization", "Basic eA=="),)).head()
    assert head.count(b"Authorization") == 1


@pytest.mark.parametrize("keepalive", [True, False])
def test_a_connection_per_request(keepalive: bool) -> None:
    with StubServer() as server:
        to = session(server.endpoint)
        found = load(replace(to, target=replace(to.target, keepalive=keepalive)), rate=40, seconds=1, warmup_s=0)
        assert all(sample.ok for sample in found.samples)
        assert (server.connections >= len(found.samples)) is not keepalive
