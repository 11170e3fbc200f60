import json
import math
from pathlib import Path

import pytest

from slo.errors import StoreError
from slo.watch.history.journal import Journal


def test_each_record_is_a_line_of_json(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state" / "watch.jsonl")
    journal.append({"n": 1, "latency_ms": math.inf})
    journal.append({"n": 2, "model": "中"})
    lines = journal.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"n": 1, "latency_ms": None}, {"n": 2, "model": "中"}]


def test_a_full_journal_starts_anew_and_keeps_one_older_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "watch.jsonl", max_bytes=100)
    for n in range(100):
        journal.append({"n": n})
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["watch.jsonl", "watch.jsonl.1"]
    assert all((tmp_path / name).stat().st_size <= 100 for name in files)
    kept = [json.loads(line)["n"] for name in reversed(files) for line in (tmp_path / name).read_text().splitlines()]
    assert kept == list(range(kept[0], 100))


def test_a_journal_that_cannot_be_written_says_which(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way", encoding="utf-8")
    with pytest.raises(StoreError, match=r"watch\.jsonl: cannot be written"):
        Journal(tmp_path / "state" / "watch.jsonl").append({})
