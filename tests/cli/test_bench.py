import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slo.cli.main import cli, run
from slo.records import load_run, save_run
from tests.stub_server import Reply, StubServer

PREFIX = "/openai/v1"
MODELS = {
    "data": [{"id": "other-model", "model_engine": "stub", "dimensions": 8, "model_revision": "stand-in-weights"}]
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLO_API_KEY", "sk-marker")
    monkeypatch.setenv("SLO_BASELINE_PACE", "0s")
    with StubServer(prefix=PREFIX, api_key="sk-marker", pages={f"{PREFIX}/models": MODELS}) as stub:
        yield stub


def baseline(server: StubServer, *options: str) -> int:
    return run(cli, ["baseline", "--endpoint", server.endpoint, "--model", "other-model", "--warmup", "1", *options])


def test_a_baseline_shows_a_table_and_saves_its_record(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    # met beside whatever else runs, however short
    Path("patient.yaml").write_text("objective: p95 <= 9s\nlongest_stall: 0s\n", encoding="utf-8")
    assert baseline(server, "--requests", "60", "--config", "patient.yaml") == 0
    out, err = capsys.readouterr()
    assert "verdict: MET" in out
    assert "stand-in weights" in out
    assert "engine stub" in out
    assert "你好世界" in err
    assert "measure 360/360" in err  # documents included
    record = load_run("last:baseline", Path(".slo"))
    assert record.stand_in
    assert len(record.samples) == 360
    assert record.id in err
    assert "sk-marker" not in out + err + Path(".slo/runs", f"{record.id}.json").read_text(encoding="utf-8")


def test_json_is_the_record_and_alone_on_stdout(server: StubServer, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert baseline(server, "--requests", "5", "--json", "--seed", "4", "--classes", "long,short") == 3
    data = json.loads(capfdbinary.readouterr().out)
    assert data["settings"]["classes"] == ["long", "short"]
    assert (data["settings"]["seed"], data["verdict"], len(data["samples"])) == (4, "unproven", 10)


def test_a_missed_objective_is_one(server: StubServer) -> None:
    server.script = lambda n, _texts: Reply(status=503) if n > 4 else Reply()
    assert baseline(server, "--requests", "5") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--classes", "tiny"], "tiny: choose from short, medium, long"),
        (["--classes", ""], "nothing: choose from"),
        (["--requests", "0"], "baseline.requests"),
        (["--api-key-file", "/dev/null/x"], "HTTP 401"),
        (["--endpoint", "nonsense"], "not an address like http"),
        (["--config", "none.yaml"], "none.yaml: no such file"),
    ],
)
def test_mistakes_are_two_and_explained(
    server: StubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    options: list[str], words: str,
) -> None:  # fmt: skip
    if "401" in words:
        monkeypatch.setenv("SLO_API_KEY", "wrong")
    assert baseline(server, *options) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not Path(".slo").exists()


def test_nobody_there_is_a_set_up_error_for_a_benchmark(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.stop()
    assert baseline(server) == 2
    assert "nothing measured" in capsys.readouterr().err


def test_ctrl_c_shows_and_saves_what_was_measured(server: StubServer, tmp_path: Path) -> None:
    server.script = lambda _n, _texts: Reply(delay_s=0.01)
    arguments = ["baseline", "--endpoint", server.endpoint, "--model", "other-model", "--warmup", "1", "--json"]
    child = subprocess.Popen(
        [sys.executable, "-m", "slo", *arguments, "--requests", "5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        while len(server.requests) < 50 and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, err
    data = json.loads(out)
    assert data["interrupted"] is True
    assert 40 < len(data["samples"]) < 5000
    assert load_run("last", tmp_path / ".slo").interrupted


def test_compare_tells_faster_from_slower_from_neither(
    server: StubServer, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def compared(*options: str) -> tuple[int, Any]:
        capfdbinary.readouterr()
        code = run(cli, ["compare", *options, "--json"])
        return code, json.loads(capfdbinary.readouterr().out)

    # A record as the command writes it, with latencies that do not depend on how busy this machine is.
    baseline(server, "--requests", "30", "--classes", "short", "--seed", "1")
    measured = load_run("last", Path(".slo"))
    Path(".slo/runs", f"{measured.id}.json").unlink()
    first, last = (f"{measured.id}-{name}" for name in ("a", "b"))
    for name, latency_s in ((first, 0.03), (last, 0.01)):
        samples = [
            replace(sample, done_s=sample.due_s + latency_s + 0.0001 * (index % 30))
            for index, sample in enumerate(measured.samples)
        ]
        save_run(replace(measured, id=name, samples=samples), Path(".slo"))
    code, faster = compared(first, "last")
    assert (code, faster["rows"][0]["difference"]) == (0, "faster")
    code, slower = compared("last", first)
    assert (code, slower["slower"], slower["rows"][0]["difference"]) == (1, True, "slower")
    code, same = compared(last, f".slo/runs/{last}.json")
    assert (code, same["rows"][0]["difference"]) == (0, "no significant difference")
    assert same["warnings"] == []


def test_compare_shows_a_table(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    baseline(server, "--requests", "25")
    capsys.readouterr()
    assert run(cli, ["compare", "last", "last:baseline"]) == 0
    assert "no significant difference" in capsys.readouterr().out


def test_comparing_what_was_never_measured_is_two(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["compare", "last", "nonsense"]) == 2
    assert "is no record" in capsys.readouterr().err
