"""What a model's name says: where its files are looked for, what is registered and launched, and under which uid."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slo.cli.launch_command import _of_another_name
from slo.clock import ManualClock
from slo.config import Config, load
from slo.deploy import source
from slo.deploy.catalogue import find_family, path_is_given, registered_families, resolved
from slo.deploy.registration import ModelPlan, description, ensure_registered, launch_body
from slo.deploy.standin import write_standin
from slo.errors import ConfigError, ModelSourceError
from tests.deploy.fake_api import FakeApi

PLAN = ModelPlan(
    name="bge-m3", uid="embeddings", builtin=True, directory="/data/bge", dimension=1024, max_tokens=8192,
    language=("zh",), stand_in=False, engine="openvino", precision="auto", device="cpu", replicas=1, threads=2,
)  # fmt: skip


def config(state_dir: Path, **model: Any) -> Config:
    return Config.model_validate({"model": model, "state_dir": state_dir})


def register(plan: ModelPlan, home: Path) -> None:
    folder = home / "model" / "v2" / "embedding"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{plan.name}.json").write_text(json.dumps(description(plan)), encoding="utf-8")


@pytest.fixture(autouse=True)
def nothing_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XINFERENCE_HOME", str(tmp_path / "theirs"))


def test_a_name_gives_path_and_hubs_where_nothing_else_is_said(tmp_path: Path) -> None:
    usual = resolved(config(tmp_path)).model
    assert usual.path == Path("/usr/local/bin/AI-ModelScope/gte-base-zh")
    assert (usual.modelscope_id, usual.huggingface_id) == ("AI-ModelScope/gte-base-zh", "thenlper/gte-base-zh")
    built_in = resolved(config(tmp_path, name="bge-m3")).model
    assert built_in.path == Path("/usr/local/bin/Xorbits/bge-m3")
    assert (built_in.modelscope_id, built_in.huggingface_id) == ("Xorbits/bge-m3", "BAAI/bge-m3")
    said = resolved(config(tmp_path, name="bge-m3", path="/data/mine", huggingface_id="me/mine")).model
    assert (str(said.path), said.modelscope_id, said.huggingface_id) == ("/data/mine", "Xorbits/bge-m3", "me/mine")


def test_a_name_of_ones_own_comes_from_no_hub(tmp_path: Path) -> None:
    model = resolved(config(tmp_path, name="ours")).model
    assert (model.path, source.hubs(model)) == (Path("/usr/local/bin/ours"), [])
    assert [hub.name for hub in source.hubs(resolved(config(tmp_path)).model)] == ["ModelScope", "Hugging Face"]


def test_an_older_file_that_spells_out_the_path_of_gte_means_it_for_gte_alone(tmp_path: Path) -> None:
    spelt = {"path": "/usr/local/bin/AI-ModelScope/gte-base-zh", "modelscope_id": "AI-ModelScope/gte-base-zh"}
    assert resolved(config(tmp_path, name="bge-m3", **spelt)).model.path == Path("/usr/local/bin/Xorbits/bge-m3")
    assert not path_is_given(config(tmp_path, **spelt).model), "as ever: its absence is no error"
    assert path_is_given(config(tmp_path, path="/data/mine").model)


def test_another_name_on_the_command_line_does_not_take_the_files_path(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text("model: {name: ours, path: /data/ours}\n", encoding="utf-8")
    given = Config.model_validate({"model": {"name": "bge-m3", "path": "/data/ours"}})
    assert _of_another_name(given, file).model.path is None
    same = Config.model_validate({"model": {"name": "ours", "path": "/data/ours"}})
    assert _of_another_name(same, file).model.path == Path("/data/ours")


@pytest.mark.parametrize("home", ["state/xinference", "theirs"])
def test_a_registered_model_is_known_with_its_files(tmp_path: Path, home: str) -> None:
    plan = ModelPlan.from_json({**PLAN.to_json(), "name": "ours", "uid": "ours", "builtin": False})
    assert plan is not None
    register(plan, tmp_path / home)
    found = find_family("ours", tmp_path / "state")
    assert found is not None
    assert (found.directory, found.dimensions, found.builtin) == (Path("/data/bge"), 1024, False)
    assert [family.name for family in registered_families(tmp_path / "state")] == ["ours"]
    assert resolved(config(tmp_path / "state", name="ours")).model.path == Path("/data/bge")


def test_a_stand_in_that_served_under_a_name_is_not_taken_for_its_model(tmp_path: Path) -> None:
    plan = ModelPlan.from_json({**PLAN.to_json(), "name": "ours", "builtin": False, "stand_in": True})
    assert plan is not None
    register(plan, tmp_path / "state" / "xinference")
    assert resolved(config(tmp_path / "state", name="ours")).model.path == Path("/usr/local/bin/ours")


def test_what_xinference_has_downloaded_is_found_on_this_machine_alone(tmp_path: Path) -> None:
    folder = tmp_path / "theirs" / "cache" / "v2" / "bge-m3-pytorch-none"
    write_standin(folder, size="tiny")
    model, models_dir = config(tmp_path, name="bge-m3").model, tmp_path / "state" / "models"
    found = source.on_disk(model, models_dir, required=False)
    assert found is not None
    assert found.directory == folder
    assert source.on_disk(model, models_dir, required=False, here=False) is None


def test_a_link_to_the_files_of_a_registered_model_is_no_download(tmp_path: Path) -> None:
    """Xinference makes it for our own stand-in: a second launch took it for the model, and lost both."""
    stand_in, link = tmp_path / "models" / "stand-in-tiny", tmp_path / "xinference" / "cache" / "v2"
    write_standin(stand_in, size="tiny")
    link.mkdir(parents=True)
    (link / "gte-base-zh-pytorch-none").symlink_to(stand_in, target_is_directory=True)
    assert source.on_disk(config(tmp_path, name="gte-base-zh").model, tmp_path / "models", required=False) is None


def test_a_built_in_model_without_files_has_no_stand_in(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="would not have the size of bge-m3"):
        source.stand_in(resolved(config(tmp_path, name="bge-m3", stand_in="tiny")).model, tmp_path / "models")


def test_a_repository_without_safetensors_is_downloaded_with_its_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def snapshot_download(model_id: str, *, local_dir: str, ignore_patterns: list[str]) -> None:
        asked.append(ignore_patterns)
        for name in ("config.json", "pytorch_model.bin"):
            if name not in ignore_patterns:
                (Path(local_dir) / name).write_bytes(b"")

    monkeypatch.setitem(sys.modules, "a_hub", SimpleNamespace(snapshot_download=snapshot_download))
    source.WebHub(name="Hub", address="http://127.0.0.1:1", module="a_hub", model_id="BAAI/bge-m3").download(tmp_path)
    assert (tmp_path / "pytorch_model.bin").is_file()
    assert len(asked) == 2
    (tmp_path / "model.safetensors").write_bytes(b"")
    source.WebHub(name="Hub", address="http://127.0.0.1:1", module="a_hub", model_id="x").download(tmp_path)
    assert len(asked) == 3, "the same weights once"


def test_a_built_in_model_is_launched_by_its_name_and_not_registered(tmp_path: Path) -> None:
    api: Any = FakeApi(ManualClock())
    assert ensure_registered(api, PLAN) == "built into Xinference"
    assert api.registered is None
    body = launch_body(PLAN, tmp_path)
    assert (body["model_name"], body["model_uid"], body["model_path"]) == ("bge-m3", "embeddings", "/data/bge")
    own = ModelPlan.from_json({**PLAN.to_json(), "builtin": False})
    assert own is not None
    assert "model_path" not in launch_body(own, tmp_path), "its registration says where"


def test_a_plan_survives_its_record_and_records_of_before_are_understood() -> None:
    assert ModelPlan.from_json(PLAN.to_json()) == PLAN
    before = {k: v for k, v in PLAN.to_json().items() if k not in ("uid", "builtin")}
    found = ModelPlan.from_json(before)
    assert found is not None
    assert (found.uid, found.builtin) == ("bge-m3", False)
    assert found.to_json() == before, "no relaunch because of a new version"


@pytest.mark.parametrize("uid", ["with blank", "a/b", "", "-x"])
def test_a_uid_that_an_address_cannot_carry_is_refused(uid: str, tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(json.dumps({"model": {"uid": uid}}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"model\.uid"):
        load(file, environ={})
