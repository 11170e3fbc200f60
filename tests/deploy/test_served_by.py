"""All embedding models that Xinference has built in: who serves each is what `slo models` says, tried on small ones."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from xinference.model.embedding import BUILTIN_EMBEDDING_MODELS, EMBEDDING_ENGINES
from xinference.model.embedding.core import create_embedding_model_instance
from xinference.model.embedding.embed_family import match_embedding

from slo.deploy.catalogue import Family, builtin_families
from slo.deploy.served_by import server_of
from slo.errors import QuantizeError
from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.engine import publish
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.loading import load
from tests.tiny_models import TEXTS, Shape, shape_of, write_shape

FAMILIES = {family.name: family for family in builtin_families()}
SHAPED = [name for name, family in FAMILIES.items() if family.architecture]
UNSHAPED = [name for name in FAMILIES if name not in SHAPED]


@pytest.fixture(scope="module", autouse=True)
def ours() -> None:
    publish()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shape], tuple[Path, SentenceTransformer]]:
    """The files of a shape, written once: eleven of bge differ in nothing but their weights."""

    @cache
    def made(shape: Shape) -> tuple[Path, SentenceTransformer]:
        directory = tmp_path_factory.mktemp("shape") / "model"
        return directory, write_shape(directory, shape)

    return made


@pytest.fixture(scope="module")
def by_ours(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Vectors]:
    """The vectors of our engine, of length 1 as the door gives them."""
    graphs = tmp_path_factory.mktemp("graphs")

    @cache
    def embedded(directory: Path) -> Vectors:
        found = load(directory, graphs, precision="fp32", pass_tokens=64).runtime.embed(TEXTS)
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), dtype=np.float32)

    return embedded


def test_all_are_listed() -> None:
    assert set(FAMILIES) == set(BUILTIN_EMBEDDING_MODELS)
    assert len(FAMILIES) == 47
    for name, family in FAMILIES.items():
        known = BUILTIN_EMBEDDING_MODELS[name][0]
        assert (family.dimensions, family.max_tokens) == (known.dimensions, known.max_tokens)
        (spec,) = [s for s in known.model_specs if (s.model_format, s.model_hub) == ("pytorch", "huggingface")]
        assert family.ids["huggingface"] == spec.model_id


@pytest.mark.parametrize("name", SHAPED)
def test_files_in_the_models_shape_are_served_by_whom_the_list_says(
    files: Callable[[Shape], tuple[Path, SentenceTransformer]], by_ours: Callable[[Path], Vectors],
    tmp_path: Path, name: str,
) -> None:  # fmt: skip
    family = FAMILIES[name]
    said = server_of(family, tmp_path / "state")
    limit = min(family.max_tokens, 8192 if family.architecture == "xlm-roberta" else 512)
    directory, made = files(shape_of(name, limit))
    judged = server_of(replace(family, directory=directory), tmp_path / "state")
    assert judged.engine == said.engine, "the files say the same"
    if said.engine == "openvino":
        found = by_ours(directory)
    else:
        assert said.engine == "sentence_transformers"
        with pytest.raises(QuantizeError):
            read_model(directory)
        found = _by_xinference(name, directory)
    prompt = "query" if name == "gte-Qwen2" else None  # Xinference takes every text of this model for a query
    expected = made.encode(TEXTS, normalize_embeddings=True, prompt_name=prompt)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def _by_xinference(name: str, directory: Path) -> Vectors:
    """As the model process of a stock server runs it."""
    model = create_embedding_model_instance(
        "uid", name, "sentence_transformers", "pytorch", "none", model_path=str(directory), device="cpu"
    )
    model.load()
    answer = model._create_embedding(TEXTS, model_uid="uid")
    return np.asarray([row["embedding"] for row in answer["data"]], dtype=np.float32)


@pytest.mark.parametrize("name", UNSHAPED)
def test_the_others_are_not_for_our_engine_and_what_they_need_is_named(
    tiny_model: Path, tmp_path: Path, name: str
) -> None:
    family = FAMILIES[name]
    said = server_of(family, tmp_path)
    assert said.engine in ("", "sentence_transformers")
    assert said.reason.startswith("embeds more than text" if family.abilities else "runs code of its own repository")
    assert ("needs" in said.reason) == (said.engine == "")
    if not family.abilities:  # their own code computes positions in another way, which config.json tells
        model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
        content = json.loads((model / "config.json").read_text(encoding="utf-8"))
        (model / "config.json").write_text(json.dumps(content | {"position_embedding_type": "alibi"}), encoding="utf-8")
        with pytest.raises(QuantizeError):
            read_model(model)


def test_in_xinference_our_engine_offers_itself_for_those_that_the_list_gives_it() -> None:
    offered = {name for name, engines in EMBEDDING_ENGINES.items() if "openvino" in engines and name in FAMILIES}
    listed = {name for name, family in FAMILIES.items() if server_of(family, Path("/nowhere")).engine == "openvino"}
    assert offered == listed
    assert match_embedding("bge-m3", "pytorch", "none").is_builtin


def test_the_reason_for_not_serving_a_model_is_what_the_environment_lacks(tmp_path: Path) -> None:
    def reason(*requirements: str) -> str:
        said = server_of(Family(name="x", dimensions=1, max_tokens=1, requirements=requirements), tmp_path)
        return said.reason if said.engine == "" else ""

    assert reason() == ""
    assert reason('numpy>=1 ; #engine# == "sentence_transformers"', "#system_torch#") == ""
    assert "numpy==0.1 (here: " in reason("numpy==0.1")
    assert "no-such-package-at-all (not installed)" in reason(
        'no-such-package-at-all ; #engine# == "sentence_transformers"'
    )
    assert reason('numpy==0.1 ; #engine# == "vllm"') == "", "another engine's"


def test_of_47_models_here_are_served(tmp_path: Path) -> None:
    count = Counter(server_of(family, tmp_path).engine for family in FAMILIES.values())
    assert count["openvino"] == 23
    assert count["sentence_transformers"] == 8
