"""Model files come from the configured path, then a hub, then the stand-in; never half of them."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from slo.config import ModelSection
from slo.deploy import source
from slo.errors import ModelSourceError


@dataclass
class FakeHub:
    """A hub that copies `model` from this disk."""

    name: str
    model: Path | None
    answers: bool = True
    seconds_to_answer: float = 0.0
    asked: list[str] = field(default_factory=list)

    def reachable(self) -> bool:
        time.sleep(self.seconds_to_answer)
        return self.answers

    def download(self, directory: Path) -> None:
        self.asked.append(self.name)
        if self.model is None:
            (directory / "config.json").write_text("{}", encoding="utf-8")
            raise ModelSourceError(f"{self.name}: broken off")
        shutil.copytree(self.model, directory, dirs_exist_ok=True)


def section(path: Path, **changes: object) -> ModelSection:
    return ModelSection.model_validate({"path": path, "stand_in": "tiny", **changes})


def test_the_configured_path_wins(tiny_model: Path, tmp_path: Path) -> None:
    found = source.on_disk(section(tiny_model), tmp_path, required=False)
    assert found is not None
    assert found.directory == tiny_model


def test_a_missing_path_is_an_error_only_if_it_was_asked_for(tmp_path: Path) -> None:
    nowhere = section(tmp_path / "nowhere")
    assert source.on_disk(nowhere, tmp_path, required=False) is None
    with pytest.raises(ModelSourceError, match="no such model directory"):
        source.on_disk(nowhere, tmp_path, required=True)


def test_damaged_files_are_never_replaced_silently(tiny_model: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (damaged / "config.json").unlink()
    with pytest.raises(ModelSourceError, match="missing"):
        source.on_disk(section(damaged), tmp_path, required=False)


def test_the_second_hub_is_tried_after_the_first_and_a_broken_download_leaves_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    model = section(tmp_path / "nowhere")
    hubs = [FakeHub("first", None), FakeHub("second", tiny_model)]
    directory = source.download(model, tmp_path / "models", said.append, hubs)
    assert directory == tmp_path / "models" / "gte-base-zh"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["gte-base-zh"]
    assert any("first: broken off" in line for line in said)
    found = source.on_disk(model, tmp_path / "models", required=False)
    assert found is not None, "a later launch finds the download"


def test_no_network_is_said_and_is_no_error(tmp_path: Path) -> None:
    said: list[str] = []
    hubs = [FakeHub("first", None, answers=False), FakeHub("second", None, answers=False)]
    assert source.download(section(tmp_path), tmp_path / "models", said.append, hubs) is None
    assert said == ["no network: first and second do not answer"]
    assert not (tmp_path / "models").exists()


def test_a_network_that_hangs_is_given_up_long_before_it_answers(tmp_path: Path) -> None:
    start_s = time.monotonic()
    hubs = [FakeHub("slow", None, seconds_to_answer=120.0), FakeHub("slower", None, seconds_to_answer=120.0)]
    assert source.download(section(tmp_path), tmp_path / "models", lambda _: None, hubs) is None
    assert time.monotonic() - start_s < 60


def test_the_stand_in_is_written_once_and_repaired_when_damaged(tmp_path: Path) -> None:
    model = section(tmp_path / "nowhere")
    first = source.stand_in(model, tmp_path)
    written = (first.directory / "model.safetensors").stat().st_mtime_ns
    assert source.stand_in(model, tmp_path).stand_in
    assert (first.directory / "model.safetensors").stat().st_mtime_ns == written
    (first.directory / "config.json").write_text("{", encoding="utf-8")
    assert source.stand_in(model, tmp_path).dimension == 128


def test_a_forbidden_stand_in_says_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="stand_in is off") as caught:
        source.stand_in_directory(section(tmp_path / "nowhere", stand_in="off"), tmp_path)
    assert "--model-path" in (caught.value.hint or "")


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(ModelSourceError, match="cannot be written"):
        source.stand_in(section(tmp_path / "nowhere"), tmp_path / "models")
