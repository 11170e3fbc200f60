"""Are the vectors the right ones: one for each text, those of the golden file, those of the other server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slo.bench.baseline import BaselinePlan, run_baseline
from slo.bench.golden_file import likeness, read_golden, references, usual_texts, write_golden
from slo.cli.main import cli, run
from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import ConfigError
from slo.objective import Objective, Verdict
from tests.bench.test_load import load, session
from tests.stub_server import Reply, StubServer, embeddings


def constant(_number: int, texts: list[str]) -> Reply:
    """One vector for all: fast, and the same again when it is asked for a reference."""
    return Reply(body=embeddings(["always this"] * len(texts), 8))


def other(_number: int, texts: list[str]) -> Reply:
    """Another model."""
    return Reply(body=embeddings([f"{text}?" for text in texts], 8))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_server_with_one_vector_for_all_misses(batch: int) -> None:
    """It was met: the answer to the same text was the same."""
    with StubServer(constant) as server:
        found = load(session(server.endpoint, batch=batch), rate=60)
    assert found.verdict is not Verdict.MET  # beside other load the few that are checked need not prove a miss
    assert found.details["answers"]["alike"] >= 5
    assert any("very vector of another text" in note for note in found.notes)


def test_so_it_does_in_a_baseline() -> None:
    plan = BaselinePlan(requests=20, warmup=0, seed=1, pace_s=0.0)
    with StubServer(constant) as server, EmbeddingsClient(server.endpoint, "stub") as client:
        found = run_baseline(client, plan, Objective(), server={}, clock=SystemClock())
    assert sum(sample.ok for sample in found.samples) == 1
    assert found.verdict is Verdict.MISSED
    assert "the same vector" in found.details["failures"][0]["example"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def slo(*words: str) -> int:
        return run(cli, list(words))

    return slo


LOAD = ("--rate", "40", "--duration", "1s", "--warmup", "0", "--model", "stub", "--golden", "known.jsonl")


def test_a_server_is_held_to_the_golden_file(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with StubServer() as server:
        assert command("golden", "known.jsonl", "--endpoint", server.endpoint, "--model", "stub") == 0
        assert len(read_golden(Path("known.jsonl"))) == 24
        assert command("load", *LOAD, "--endpoint", server.endpoint, "--json") in (0, 3)
        assert json.loads(capsys.readouterr().out)["settings"]["golden"]["least"] == pytest.approx(1.0)
    with StubServer(other) as server:
        assert command("load", *LOAD, "--endpoint", server.endpoint) == 1
        assert command("baseline", "--endpoint", server.endpoint, "--model", "stub", "--golden", "known.jsonl") == 1
    said = capsys.readouterr().err
    assert "24 of 24 golden vectors are others" in said
    assert "line 1 of known.jsonl" in said


def test_own_texts_may_be_golden(command: Any, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("q1\t你好\nq2\t你好\nq3\t世界\n", encoding="utf-8")
    with StubServer() as server:
        words = ("--texts", "t.tsv", "--endpoint", server.endpoint, "--model", "stub")
        assert command("golden", "known.jsonl", *words) == 0
    assert [reference.text for reference in read_golden(tmp_path / "known.jsonl")] == ["你好", "世界"]


@pytest.mark.parametrize(
    "line", ["{", '{"text": "a"}', '{"text": 1, "vector": [1]}', '{"text": "a", "vector": ["x"]}', "1"]
)
def test_a_line_that_is_no_golden_vector_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "g.jsonl").write_text('{"text": "a", "embedding": [1, 2]}\n' + line)
    with pytest.raises(ConfigError, match=r"g\.jsonl:2: not a golden vector"):
        read_golden(tmp_path / "g.jsonl")


def test_the_likeness_of_two_servers() -> None:
    with StubServer() as server, StubServer(other) as another, StubServer(dimension=9) as larger:
        sides = []
        for one in (server, another, larger):
            with EmbeddingsClient(one.endpoint, "stub") as client:
                sides.append(references(client, usual_texts(8)))
    assert likeness(sides[0], sides[0]).least == pytest.approx(1.0)
    assert likeness(sides[0], sides[1]).mean < 0.9
    assert likeness(sides[0], sides[2]).least == -1.0


def test_a_golden_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    with StubServer() as server, EmbeddingsClient(server.endpoint, "stub") as client:
        found = references(client, usual_texts(4))
    write_golden(tmp_path / "g.jsonl", found)
    assert read_golden(tmp_path / "g.jsonl") == found
