"""Weights that do not fit the model are mended where that is certain, or refused by name; never replaced at random."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from slo.errors import ModelSourceError, QuantizeError
from slo.serve.engine.encoder import load_encoder
from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.loading import Workshop, load
from slo.serve.engine.packing import Pass
from slo.serve.engine.reference import TEXTS, require_agreement
from slo.serve.engine.runtime import Runtime

Tensors = dict[str, torch.Tensor]


def rewrite(tiny: Path, directory: Path, change: Callable[[Tensors], Tensors], *, pickled: bool = False) -> Path:
    """The tiny stand-in with other weights."""
    shutil.copytree(tiny, directory)
    tensors = change(load_file(directory / "model.safetensors"))
    (directory / "model.safetensors").unlink()
    if pickled:
        torch.save(tensors, directory / "pytorch_model.bin")
    else:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: tensor.clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "torch"])
def test_a_wrapped_checkpoint_gives_the_vectors_of_the_plain_one(tiny: Path, tmp_path: Path, pickled: bool) -> None:
    prefix = "_orig_mod.module." if pickled else "module."
    directory = rewrite(tiny, tmp_path / "model", prefixed(prefix), pickled=pickled)
    expected = SentenceTransformer(str(tiny), device="cpu").encode(list(TEXTS))
    loaded = load(directory, tmp_path / "cache", precision="fp32", pass_tokens=64)
    np.testing.assert_allclose(loaded.runtime.embed(TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.bert.", "bert."])
def test_other_names_for_the_same_weights_are_read_as_well(tiny: Path, tmp_path: Path, prefix: str) -> None:
    directory = rewrite(tiny, tmp_path / "model", prefixed(prefix))
    theirs, ours = (load_encoder(read_model(path)).state_dict() for path in (tiny, directory))
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


def without(*parts: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: value for name, value in tensors.items() if not name.startswith(parts)}


def with_more(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.ones(2, 2) for name in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (prefixed("model."), r"embeddings\.LayerNorm\.bias.* and 33 more missing; model\.embeddings.* unknown"),
        (without("encoder.layer.1.output.dense.bias"), r"encoder\.layer\.1\.output\.dense\.bias missing"),
        (without("encoder.layer.1."), r"encoder\.layer\.1\..* and 12 more missing"),
        (with_more("encoder.layer.0.attention.self.query.lora_A.weight"), r"lora_A\.weight unknown"),
        (with_more("encoder.layer.2.output.dense.bias"), r"encoder\.layer\.2\.output\.dense\.bias unknown"),
    ],
    ids=["another prefix", "one weight missing", "a layer missing", "an adapter", "a layer too many"],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    tiny: Path, tmp_path: Path, change: Callable[[Tensors], Tensors], words: str
) -> None:
    directory = rewrite(tiny, tmp_path / "model", change)
    with pytest.raises(ModelSourceError, match=words):
        load_encoder(read_model(directory))
    with pytest.raises(ModelSourceError, match="do not fit"):
        Workshop(directory, tmp_path / "cache").choose("fp32")


@pytest.mark.parametrize(
    "change",
    [without("pooler."), with_more("cls.predictions.bias", "classifier.weight", "embeddings.position_ids")],
    ids=["no pooler", "heads"],
)
def test_what_an_embedding_model_does_not_use_may_be_missing_or_left_over(
    tiny: Path, tmp_path: Path, change: Callable[[Tensors], Tensors]
) -> None:
    load_encoder(read_model(rewrite(tiny, tmp_path / "model", change)))


def test_vectors_that_sentence_transformers_does_not_give_are_refused(tiny: Path, cache: Path) -> None:
    workshop = Workshop(tiny, cache)

    def noise(packed: Pass) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return np.random.default_rng(1).standard_normal((len(packed.texts), 128)).astype(np.float32)

    with pytest.raises(QuantizeError, match="differ from those of sentence-transformers"):
        require_agreement(workshop.files, Runtime(workshop.files, workshop.tokenizer(), noise, pass_tokens=96))


def test_a_tokenizer_is_read_as_transformers_reads_it(tiny: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny, directory)
    path = directory / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": "今"}, "content": "昨"}],
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    theirs = SentenceTransformer(str(directory), device="cpu").encode(list(TEXTS))
    ours = load(directory, tmp_path / "cache", precision="fp32", pass_tokens=64).runtime.embed(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
