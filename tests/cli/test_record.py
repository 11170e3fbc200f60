"""Live traffic, from the server's memory to a file to the same load again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slo.bench.schedule import read_trace
from slo.cli.main import cli, run
from tests.stub_server import StubServer

LIVE = '{"format": 1, "kind": "arrivals", "complete": %s}\n{"t": 0.0, "chars": [20]}\n{"t": 0.5, "chars": [4, 4]}\n'


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def record(text: str, *words: str) -> int:
    with StubServer(pages={"/slo/api/arrivals?seconds=600": text.encode()}) as server:
        return run(cli, ["record", "t.jsonl", "--endpoint", server.endpoint, *words])


def test_what_arrived_is_written_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert record(LIVE % "true") == 0
    assert "2 requests over 1s (2.0/s) written to t.jsonl" in capsys.readouterr().out
    assert read_trace(Path("t.jsonl")).chars == [(20,), (4, 4)]


def test_what_was_forgotten_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert record(LIVE % "false", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["complete"] is False
    assert "older requests are forgotten" in err


def test_silence_and_servers_without_the_extension_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert record((LIVE % "true").partition("\n")[0]) == 2
    with StubServer() as server:
        assert run(cli, ["record", "t.jsonl", "--endpoint", server.endpoint]) == 2
    said = capsys.readouterr().err
    assert "holds no arrivals" in said
    assert "no xinference-slo extension" in said
    assert not Path("t.jsonl").exists()
