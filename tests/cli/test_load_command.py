"""The commands as a user types them: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slo.cli.main import cli, run
from slo.errors import Interrupted

TESTS = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLO_CLIENT_TIMEOUT", "5s")
    monkeypatch.setenv("SLO_LONGEST_STALL", "0s")  # else "met" takes a minute
    monkeypatch.setenv("SLO_CONFIDENCE", "0.6")  # beside other load 160 requests may weigh as 40


@pytest.fixture
def endpoint() -> Iterator[str]:
    command = [sys.executable, str(TESTS / "batch_server.py"), "--fixed", "4", "--token", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def slo(endpoint: str, *words: str) -> int:
    return run(cli, [*words, "--endpoint", endpoint, "--model", "queue"])


LOAD = ("load", "--rate", "80", "--duration", "2s", "--warmup", "0.3s", "--seed", "5")


def test_load_prints_the_product_on_stdout_and_the_rest_on_stderr(
    endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert slo(endpoint, *LOAD) == 0
    out, err = capfd.readouterr()
    assert "verdict: MET" in out
    assert "overall" in out
    assert f"slo load --rate 80 --duration 2 --warmup 0.3s --endpoint {endpoint} --model queue --seed 5" in err
    assert "saved .slo/runs/" in err


def test_load_as_json_is_the_record(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert slo(endpoint, *LOAD, "--json") == 0
    data = json.loads(capfd.readouterr().out)
    assert data["kind"] == "load"
    (saved,) = Path(".slo/runs").glob("*-load-*.json")
    assert json.loads(saved.read_text())["id"] == data["id"]


def test_a_missed_objective_is_exit_code_1(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLO_OBJECTIVE", "p95 <= 2ms")
    assert slo(endpoint, *LOAD) == 1


def test_against_fails_on_a_regression_only(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert slo(endpoint, *LOAD) == 0
    # Equal ones are called different now and then, beside other load more often.
    assert any(slo(endpoint, *LOAD, "--against", "last") == 0 for _ in range(4))
    command = [sys.executable, str(TESTS / "batch_server.py"), "--fixed", "40"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as slower:
        assert slower.stdout is not None
        other = f"http://127.0.0.1:{int(slower.stdout.readline())}"
        assert slo(other, *LOAD, "--against", "last") == 1
        slower.kill()
    assert "slower" in capfd.readouterr().out


def test_last_is_the_last_run_of_the_same_load(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise a higher rate would be called a regression of the server."""
    assert slo(endpoint, *LOAD, "--json") == 0
    first = json.loads(capfd.readouterr().out)["id"]
    other = ("load", "--rate", "40", "--duration", "1s", "--warmup", "0.2s", "--seed", "6")
    assert slo(endpoint, *other, "--against", "last") == 2
    assert "under this load" in capfd.readouterr().err
    slo(endpoint, *other)
    capfd.readouterr()
    assert slo(endpoint, *LOAD, "--against", "last", "--json") in (0, 1)  # one in twenty equal pairs differs
    assert json.loads(capfd.readouterr().out)["details"]["against"]["before"] == first


@pytest.mark.parametrize(
    "words",
    [
        ("load", "--duration", "2s"),
        ("load", "--rate", "5", "--duration", "2x"),
        ("load", "--rate", "5", "--duration", "2s", "--mix", "tiny"),
        ("load", "--rate", "5", "--duration", "2s", "--texts", "nowhere.txt"),
        ("load", "--rate", "5", "--duration", "2s", "--against", "nothing"),
        ("load", "--rate", "5", "--duration", "2s", "--arrivals", "uniform"),
        ("stress", "--resume", "nothing"),
        ("stress", "--duration", "0"),
        ("stress", "--duration", "24h", "--slice", "1s"),
        ("capacity", "--floor", "10", "--ceiling", "5"),
        ("capacity", "--confirm", "0"),
        ("stress", "--resume", "20260101-stress-abc", "--concurrency", "9"),
        ("plan",),
        ("plan", "--rate", "5", "--concurrency", "5"),
    ],
)
def test_mistakes_are_exit_code_2_and_one_message(
    endpoint: str, words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert slo(endpoint, *words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "rror" in err
    assert "Traceback" not in err


def test_nobody_there_is_said_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert slo("http://127.0.0.1:9", *LOAD) == 2
    assert "nothing measured" in capfd.readouterr().err


def test_stress_prints_the_table_and_resumes(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("stress", "--concurrency", "4", "--duration", "3s", "--slice", "1s", "--warmup", "0")
    assert slo(endpoint, *words) == 0
    out, err = capfd.readouterr()
    assert "concurrent requests" in out
    assert "slice 1:" in err
    (file,) = Path(".slo/runs").glob("*.slices.jsonl")
    name = file.name.removesuffix(".slices.jsonl")
    assert slo(endpoint, "stress", "--resume", name) == 2  # complete
    file.write_text("\n".join(file.read_text().splitlines()[:2]) + "\n")
    assert slo(endpoint, "stress", "--resume", name, "--warmup", "0") == 0
    assert len(file.read_text().splitlines()) >= 3
    assert "slices that met it, of 3" in capfd.readouterr().out


def test_a_resumed_run_keeps_the_objective_that_it_began_with(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert slo(endpoint, "stress", "--concurrency", "2", "--duration", "3s", "--slice", "1s", "--warmup", "0") == 0
    (file,) = Path(".slo/runs").glob("*.slices.jsonl")
    file.write_text("\n".join(file.read_text().splitlines()[:2]) + "\n")
    monkeypatch.setenv("SLO_OBJECTIVE", "p95 <= 1ms")
    assert slo(endpoint, "stress", "--resume", file.name.removesuffix(".slices.jsonl"), "--warmup", "0") == 0
    assert "P95 ≤ 150 ms" in capfd.readouterr().out


def test_a_comparison_that_is_impossible_does_not_cost_the_run(
    endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert slo(endpoint, *LOAD, "--mix", "short=1") == 0
    (before,) = Path(".slo/runs").glob("*-load-*.json")
    assert slo(endpoint, *LOAD, "--mix", "long=1", "--against", str(before)) == 2
    out, err = capfd.readouterr()
    assert "different loads" in err
    assert out.count("verdict: MET") == 2
    assert len(list(Path(".slo/runs").glob("*-load-*.json"))) == 2


def test_what_cannot_be_saved_is_shown_all_the_same(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path(".slo").mkdir()
    Path(".slo/runs").write_text("a file where the folder should be")
    assert slo(endpoint, *LOAD) == 2
    out, err = capfd.readouterr()
    assert "verdict: MET" in out
    assert "cannot be written" in err


def test_arrivals_that_cannot_be_written_are_a_note(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert slo(endpoint, *LOAD, "--record-arrivals", "/proc/nowhere/arrivals.jsonl") == 0
    assert "note: arrivals were not recorded" in capfd.readouterr().out


def test_ctrl_c_reports_what_was_done(endpoint: str) -> None:
    words = ["stress", "--concurrency", "4", "--duration", "1h", "--endpoint", endpoint, "--model", "queue"]
    command = ["timeout", "--signal=INT", "--preserve-status", "4", sys.executable, "-m", "slo", *words]
    done = subprocess.run([*command, "--warmup", "0"], capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 130
    assert "requests within the objective" in done.stdout
    assert "Traceback" not in done.stderr


def test_ctrl_c_in_the_warm_up_does_not_blame_the_warm_up(endpoint: str) -> None:
    words = ["load", "--rate", "20", "--duration", "1h", "--endpoint", endpoint, "--model", "queue"]
    command = ["timeout", "--signal=INT", "--preserve-status", "4", sys.executable, "-m", "slo", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 130
    assert "lag P99 –" in done.stdout
    assert "settled" not in done.stdout


def _environment() -> dict[str, Any]:
    import os  # noqa: PLC0415

    return os.environ | {"PYTHONPATH": str(TESTS.parent)}


def test_capacity_finds_a_rate_and_proves_it(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLO_OBJECTIVE", "p95 <= 4s")  # no load beside it makes the ceiling fail
    words = ("capacity", "--floor", "30", "--ceiling", "40", "--least", "2s", "--confirm", "5s", "--json")
    assert slo(endpoint, *words) == 0
    data = json.loads(capfd.readouterr().out)
    found = data["details"]["searches"]["mix"]
    assert found["confirmed"]
    assert not found["bounded"]
    assert found["best"] == 40
    assert data["kind"] == "capacity"


def test_ctrl_c_in_the_ladder_keeps_the_rate_that_was_proven(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> list[object]:
        raise Interrupted("stopped")

    monkeypatch.setattr("slo.cli.capacity_command.climb", stopped)
    monkeypatch.setenv("SLO_OBJECTIVE", "p95 <= 4s")
    words = ("capacity", "--floor", "30", "--ceiling", "30", "--least", "2s", "--confirm", "5s", "--ladder")
    assert slo(endpoint, *words) == 130
    out = capfd.readouterr().out
    assert "proven" in out and "stopped by the user" in out
    assert list(Path(".slo/runs").glob("*-capacity-*.json"))


def test_plan_shows_its_model_and_its_check(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert slo(endpoint, "plan", "--rate", "1000", "--check", "3s", "--batch-tokens", "160") == 0
    out = capfd.readouterr().out
    for words in ("replicas", "M/D/1", "per token", "slower under load", "check at"):
        assert words in out


def test_plan_for_callers_says_how_many_are_held(endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert slo(endpoint, "plan", "--concurrency", "50", "--check", "0", "--json") == 0
    callers = json.loads(capfd.readouterr().out)["details"]["callers"]
    assert callers["wished"] == 50
    assert callers["held"] >= 1
    assert callers["hit_ratio"] is None  # it has no cache


def test_two_servers_are_measured_in_turns(endpoint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, str(TESTS / "batch_server.py"), "--fixed", "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as slower:
        assert slower.stdout is not None
        for name, port in (("a", endpoint.rpartition(":")[2]), ("b", slower.stdout.readline().strip())):
            settings = f"server: {{endpoint: 'http://127.0.0.1:{port}'}}\nmodel: {{name: queue}}\n"
            (tmp_path / f"{name}.yaml").write_text(settings)
        turns = ["--run", "--rounds", "5", "--round", "1s", "--rate", "40"]
        assert run(cli, ["compare", "a.yaml", "b.yaml", *turns]) == 1
        out = capfd.readouterr().out
        assert "B is slower" in out
        assert "over 24 texts: least 1.0000, mean 1.0000" in out
        assert run(cli, ["compare", "a.yaml", "a.yaml", *turns]) == 2
        slower.kill()
        slower.wait()
        assert run(cli, ["compare", "a.yaml", "b.yaml", *turns]) == 2
        assert "nothing measured" in capfd.readouterr().err
        slower.kill()
