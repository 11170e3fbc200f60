"""Console and file: the channels that need no network."""

import io
import json
import time
from pathlib import Path

import pytest

from slo.watch.delivery.sinks.local import ConsoleSink, FileSink
from slo.watch.delivery.sinks.outcome import Delivered, Retry
from tests.watch.delivery.sinks.receiver import note

NOW = 1_700_000_000.0


def test_the_console_shows_local_time_title_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    stream = io.StringIO()
    assert ConsoleSink(stream).send(note(), NOW) == Delivered()
    assert stream.getvalue() == (
        "2023-11-15 06:13:20 UTC+8 gte-base-zh P95 412ms\n"
        "    原因\n    \n    - P95 412ms\n    - 见 手册: https://runbook.example/p95\n"
    )
    monkeypatch.undo()
    time.tzset()


def test_a_closed_console_is_worth_a_retry() -> None:
    stream = io.StringIO()
    stream.close()
    assert isinstance(ConsoleSink(stream).send(note(), NOW), Retry)


def test_the_file_holds_one_object_a_line(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "deep" / "alerts.jsonl")
    sink.send(note("e-1"), NOW)
    sink.send(note("e-2"), NOW)
    lines = [json.loads(line) for line in sink.path.read_text(encoding="utf-8").splitlines()]
    assert [line["event_id"] for line in lines] == ["e-1", "e-2"]
    assert lines[0]["starts_at"] == "2023-11-14T22:13:20.000Z"


def test_the_file_is_bounded_and_keeps_one_older(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "alerts.jsonl", max_bytes=2000)
    for number in range(20):
        sink.send(note(f"e-{number}"), NOW)
    assert sink.path.stat().st_size <= 2000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alerts.jsonl", "alerts.jsonl.1"]


def test_a_file_that_cannot_be_written_is_worth_a_retry(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    assert isinstance(FileSink(tmp_path / "taken" / "alerts.jsonl").send(note(), NOW), Retry)
