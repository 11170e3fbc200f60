import json
import time
from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.config import Config
from slo.watch.heartbeat import Heartbeat
from slo.watch.history.store import Store
from slo.watch.wiring import goals_of
from tests.watch.simulated import traffic


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An hour in which 2 % were slow, 400 ms, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    now_s = int(time.time()) // 60 * 60
    with Store(Path(".slo/history.db")) as store:
        for index in range(60):
            store.record([traffic(now_s - 60 * (60 - index), good=98, slow=2)], goals_of(Config()))
    return tmp_path


def slo(*arguments: str) -> int:
    return run(cli, list(arguments))


def test_budget_shows_both_attainments_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert slo("budget") == 0
    out = capsys.readouterr().out
    assert "latency: P95 ≤ 150 ms over 30d, seen for 1h" in out
    assert "98.00 % of 6000 requests, – of windows" in out
    assert "budget left 60.0%" in out


@pytest.mark.parametrize(
    ("ago_s", "words"),
    [(None, "never ran here"), (30, "watcher: last round 3"), (600, "watcher: SILENT, last round 10m")],
    ids=["no watcher", "on duty", "silent"],
)
def test_budget_says_whether_anybody_watches(
    ago_s: float | None, words: str, history: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if ago_s is not None:
        Heartbeat(history / ".slo", interval_s=60, complain=print).beat(time.time() - ago_s)
    assert slo("budget") == 0
    assert words in capsys.readouterr().out


def test_budget_for_machines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert slo("budget", "--json") == 0
    rows = json.loads(capfdbinary.readouterr().out)
    assert [row["objective"] for row in rows] == ["latency", "availability", "correctness"]
    assert rows[0]["remaining"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        pytest.param(["--p95", "150ms"], 0, "met\n  98.00 % of 6000", id="as it was"),
        pytest.param(["--objective", "p99 <= 150ms"], 1, "missed\n  98.00 %", id="a stricter target"),
        pytest.param(["--p95", "500ms", "--last", "30m"], 0, "100 % of", id="a looser threshold"),
        pytest.param(["--objective", "p99 <= 400ms"], 3, "98.00 % – 100 %, about 99.", id="between edges"),
    ],
)
def test_replay_answers_what_if(capsys: pytest.CaptureFixture[str], options: list[str], code: int, words: str) -> None:
    assert slo("replay", *options) == code
    out = capsys.readouterr().out
    assert words in out
    assert ("bounds are exact" in out) is (code == 3)


def test_replay_for_machines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert slo("replay", "--p95", "150ms", "--json") == 0
    found = json.loads(capfdbinary.readouterr().out)
    assert (found["met"], found["exact"], found["total"], found["sources"]) == (True, True, 6000, {"passive": 6000})


def test_maintenance_gives_the_budget_back_and_keeps_both_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert slo("maintenance", "--start", "-2h", "--for", "3h", "--reason", "new weights", "--author", "Li Lei") == 0
    assert slo("maintenance", "--list") == 0
    assert "new weights (Li Lei)" in capsys.readouterr().out
    assert slo("budget") == 3
    assert "budget left 100.0% (maintenance included: 60.0%)" in capsys.readouterr().out


def test_a_silence_is_made_listed_and_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert slo("silence", "severity=ticket", "--comment", "load test", "--author", "Li Lei") == 0
    name = capsys.readouterr().out.split()[1]
    assert slo("silence", "--list") == 0
    assert f"{name}  until" in capsys.readouterr().out
    assert slo("silence", "--end", name) == 0
    assert slo("silence", "--list") == 0
    assert capsys.readouterr().out == "none\n"


def test_a_note_is_quoted_with_its_author(capsys: pytest.CaptureFixture[str]) -> None:
    assert slo("note", "deployed v2", "--change", "--author", "Li Lei") == 0
    assert slo("budget", "--actions") == 0
    assert "change  deployed v2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["replay", "--p95", "fast"], id="no duration"),
        pytest.param(["replay", "--p95", "1s", "--objective", "p95 <= 1s"], id="twice"),
        pytest.param(["silence", "--comment", "x"], id="mutes everything"),
        pytest.param(["silence", "a=b"], id="no comment"),
        pytest.param(["silence", "--end", "nobody"], id="no such silence"),
        pytest.param(["maintenance"], id="no reason"),
    ],
)
def test_nonsense_is_a_mistake_of_usage(arguments: list[str]) -> None:
    assert slo(*arguments) == 2


@pytest.mark.parametrize("command", ["budget", "replay"])
def test_without_a_history_it_says_who_writes_one(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert slo(command) == 2
    assert "`slo watch` writes it" in capsys.readouterr().err
