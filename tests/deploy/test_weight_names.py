"""Names of weights in real checkpoints of both formats."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from slo.deploy.weight_names import require_plain
from slo.errors import ModelSourceError

WEIGHTS = {"embeddings.LayerNorm.weight": torch.ones(3), "encoder.layer.0.output.dense.bias": torch.zeros(3)}


def write(directory: Path, prefix: str, *, pickled: bool) -> None:
    tensors = {prefix + name: value for name, value in WEIGHTS.items()}
    if pickled:
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_a_wrappers_prefix_is_named(tmp_path: Path, prefix: str, pickled: bool) -> None:
    write(tmp_path, prefix, pickled=pickled)
    with pytest.raises(ModelSourceError, match=r"begin with '(module|_orig_mod)\.'"):
        require_plain(tmp_path)


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "torch"])
@pytest.mark.parametrize("prefix", ["", "bert."])
def test_names_as_transformers_writes_them_pass(tmp_path: Path, prefix: str, pickled: bool) -> None:
    write(tmp_path, prefix, pickled=pickled)
    require_plain(tmp_path)
