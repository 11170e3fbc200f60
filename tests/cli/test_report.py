"""`slo report --last`: what the watcher's history amounts to."""

from __future__ import annotations

from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.cli.report import incidents
from slo.samples import Sample
from slo.watch.history.event_log import HistoryEvent, write
from slo.watch.history.store import Store
from slo.watch.model.counts import minute_of
from slo.watch.model.objectives import parse_goal

NOW_S = 1_790_000_000


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six hours of minutes; in the last of them every fifth request is late."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("slo.clock.SystemClock.wall", lambda _: float(NOW_S))
    goal = parse_goal("latency", "p95 <= 150ms")
    with Store(tmp_path / ".slo" / "history.db") as store:
        for minute in range(360, 0, -1):
            latencies = [0.4 if minute <= 60 and i % 5 == 0 else 0.08 for i in range(20)]
            samples = [Sample(float(i), float(i), i + latency, "ok", "short") for i, latency in enumerate(latencies)]
            start_s = NOW_S // 60 * 60 - 60 * minute
            store.record([minute_of(samples, start_s=start_s, source="passive", thresholds_ms=[150])], [goal])
        for at_s, text in ((NOW_S - 3000, "firing"), (NOW_S - 600, "resolved")):
            write(store, HistoryEvent(at_s=at_s, kind="alert", subject="P95AboveObjective/latency/ticket", text=text))
        write(store, HistoryEvent(at_s=NOW_S - 3100, kind="change", subject="deploy v2", author="li"))
    return tmp_path


def test_attainment_budget_incidents_and_changes_are_told(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["report", "--last", "1d", "--markdown", "--lang", "zh"]) == 0
    text = capsys.readouterr().out
    assert "| SLO 达成率（请求） | 96.66 % |" in text
    assert "| 错误预算剩余 | 33.3 % |" in text
    assert "| P95AboveObjective/latency/ticket | 2026-09-21 13:23:20 | 40m |" in text
    assert "| deploy v2 | 2026-09-21 13:21:40 | li |" in text
    assert text.count("2026-09-21 ") >= 8


def test_it_comes_as_page_and_picture_too(history: Path) -> None:
    assert run(cli, ["report", "--last", "1d", "--out", "week.html", "--png", "week.png", "--lang", "en"]) == 0
    assert "SLO report" in (history / "week.html").read_text(encoding="utf-8")
    assert (history / "week.png").read_bytes().startswith(b"\x89PNG")


def test_days_instead_of_hours_for_a_month(history: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["report", "--last", "30d", "--markdown", "--lang", "en"]) == 0
    assert "By day" in capsys.readouterr().out


def test_without_a_history_it_says_who_writes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["report", "--last", "7d"]) == 2
    assert "`slo watch` writes it" in capsys.readouterr().err


def test_runs_and_a_period_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["report", "last", "--last", "7d"]) == 2
    assert "give one of the two" in capsys.readouterr().err


def test_an_alert_that_still_fires_has_no_end_and_one_from_before_no_beginning() -> None:
    def event(at_s: float, subject: str, text: str) -> HistoryEvent:
        return HistoryEvent(at_s=at_s, kind="alert", subject=subject, text=text)

    found = incidents([
        event(1, "old", "resolved"), event(2, "a", "pending"), event(3, "a", "firing"), event(4, "b", "firing"),
        event(5, "a", "resolved"), event(6, "a", "firing"),
    ])  # fmt: skip
    assert [(one.alert, one.started_s, one.ended_s) for one in found] == [("a", 3, 5), ("b", 4, None), ("a", 6, None)]
