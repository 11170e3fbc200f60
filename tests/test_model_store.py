"""What is kept of models: found, held while in use, and pruned by last use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slo.model_store import LOCK, PARTS, Held, listing, made_from, note_source, parts_made, prune, recipe

NOW_S = 1_700_000_000.0


def graphs(models: Path, number: int, *, used_s: float, kib: int = 100) -> Path:
    """A folder of graphs of `kib` KiB and a little, last used at `used_s`."""
    folder = models / f"{number:024x}"
    (folder / "fp32").mkdir(parents=True)
    (folder / "fp32" / "graph.bin").write_bytes(os.urandom(kib * 1024))
    (folder / LOCK).touch()
    os.utime(folder / LOCK, (used_s, used_s))
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_the_least_recently_used_beyond_the_bound_goes(models: Path) -> None:
    old, middle, new = (graphs(models, n, used_s=NOW_S + at) for n, at in ((1, 10), (2, 20), (3, 30)))
    assert [entry.path for entry in listing(models)] == [new, middle, old]
    removed = prune(models, 250 * 1024, now_s=NOW_S)
    assert [entry.path for entry in removed] == [old]
    assert not old.exists()
    assert middle.is_dir()
    assert new.is_dir()
    assert prune(models, 250 * 1024, now_s=NOW_S) == []


def test_what_is_in_use_stays_whatever_it_takes(models: Path) -> None:
    old, new = graphs(models, 1, used_s=NOW_S), graphs(models, 2, used_s=NOW_S + 10)
    holder = (
        "import sys; from pathlib import Path; from slo.model_store import Held\n"
        "held = Held(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(old)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert [entry.path for entry in prune(models, 0, now_s=NOW_S)] == [new]
        assert [(entry.path, entry.in_use) for entry in listing(models)] == [(old, True)]
        process.kill()  # the kernel lets go of what a killed process held
    assert [entry.path for entry in prune(models, 0, now_s=NOW_S)] == [old]
    assert list(models.iterdir()) == []


def test_holding_notes_the_use_and_ends_with_its_object(models: Path) -> None:
    folder = graphs(models, 1, used_s=NOW_S)
    held = Held(folder)
    (entry,) = listing(models)
    assert entry.in_use
    assert entry.used_s > NOW_S
    del held
    assert not listing(models)[0].in_use


def test_models_are_kept_and_left_overs_go_once_nobody_can_be_writing_them(models: Path) -> None:
    (models / "stand-in-full").mkdir(parents=True)
    (models / "stand-in-full" / "model.safetensors").write_bytes(b"\0" * 10_000)
    left = models / ".gte.abc123"
    left.mkdir()
    os.utime(left, (NOW_S, NOW_S))
    assert prune(models, 0, now_s=NOW_S + 60) == []
    assert [entry.path for entry in prune(models, 0, now_s=NOW_S + 7200)] == [left]
    assert [(entry.kind, entry.path.name) for entry in listing(models)] == [("model", "stand-in-full")]


def test_parts_are_those_of_this_model_as_it_is_now(models: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    folder = graphs(models, 1, used_s=NOW_S)
    assert parts_made(models, model) == set()
    note_source(folder, made_from(model, recipe()))
    assert parts_made(models, model) == {"fp32"}
    for part in PARTS:
        (folder / part).mkdir(exist_ok=True)
    assert parts_made(models, model) == set(PARTS)
    (model / "model.safetensors").write_bytes(b"others!!")
    assert parts_made(models, model) == set()
    note_source(folder, made_from(model, ["recipe 0"]))
    assert parts_made(models, model) == set(), "made in another way"


def test_nothing_there_is_no_error(models: Path) -> None:
    assert listing(models) == []
    assert prune(models, 0) == []
    assert parts_made(models, models) == set()
