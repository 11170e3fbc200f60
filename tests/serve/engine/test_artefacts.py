"""A digest is remembered exactly as long as the file cannot have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from slo.model_files import file_digest
from slo.serve.engine import artefacts
from slo.serve.engine.artefacts import WORTH_BYTES, Digests


class Counted:
    """`file_digest`, counting."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, path: Path) -> bytes:
        self.calls += 1
        return file_digest(path)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(artefacts, "SETTLED_NS", 0)
    file = tmp_path / "weights.bin"
    file.write_bytes(b"a" * WORTH_BYTES)
    return file


def test_it_is_computed_once_even_across_starts(weights: Path, tmp_path: Path) -> None:
    count = Counted()
    results = {Digests(tmp_path / "digests.json", count)(weights) for _ in range(3)}
    assert results == {file_digest(weights)}
    assert count.calls == 1


@pytest.mark.parametrize("change", ["content, times set back", "replaced by another file", "touched"])
def test_a_changed_file_is_read_again(weights: Path, tmp_path: Path, change: str) -> None:
    count, status = Counted(), weights.stat()
    Digests(tmp_path / "digests.json", count)(weights)
    time.sleep(0.02)
    if change.startswith("content"):
        weights.write_bytes(b"b" * WORTH_BYTES)
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change.startswith("replaced"):
        other = tmp_path / "other"
        other.write_bytes(b"c" * WORTH_BYTES)
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(weights)
    else:
        weights.touch()
    assert Digests(tmp_path / "digests.json", count)(weights) == file_digest(weights)
    assert count.calls == 2


def test_a_file_just_written_is_not_remembered(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artefacts, "SETTLED_NS", 10**12)
    remember = Digests(tmp_path / "digests.json")
    assert remember(weights) == file_digest(weights)
    assert not (tmp_path / "digests.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": ["key", "no hex"]}', '{"a": ["key"]}'])
def test_a_damaged_memory_is_an_empty_one(weights: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "digests.json").write_text(content, encoding="utf-8")
    assert Digests(tmp_path / "digests.json")(weights) == file_digest(weights)


def test_files_that_are_gone_are_forgotten(weights: Path, tmp_path: Path) -> None:
    memory = tmp_path / "digests.json"
    other = tmp_path / "other.bin"
    other.write_bytes(b"b" * WORTH_BYTES)
    Digests(memory)(other)
    other.unlink()
    Digests(memory)(weights)
    assert str(weights) in memory.read_text(encoding="utf-8")
    assert str(other) not in memory.read_text(encoding="utf-8")


def test_small_files_are_always_read(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"a")
    assert Digests(tmp_path / "digests.json")(small) == file_digest(small)
    assert not (tmp_path / "digests.json").exists()


def test_a_memory_that_cannot_be_written_is_no_failure(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("", encoding="utf-8")
    assert Digests(tmp_path / "occupied" / "digests.json")(weights) == file_digest(weights)
