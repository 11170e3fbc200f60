"""Odd model folders and odd paths: a reason in words, never an exception that ends the server, never a lost model."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo import model_files as host_side
from slo.deploy.registration import ModelPlan, description
from slo.deploy.standin import write_standin
from slo.errors import SloError
from slo.serve.engine import engine
from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.engine import OpenVinoEmbedding

FOLDERS = [
    "models dl",
    "模型 中文",
    "100%41",
    "a#b?c",
    "~tilde",
    "semi;colon&x=1",
    "[brackets]*",
    "plus+plus",
    "q'\"uote",
]
FILES = ["config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "tokenizer_config.json"]
KEYS = [
    "model_type", "hidden_size", "pad_token_id", "max_position_embeddings", "type", "path", "pooling_mode",
    "is_decoder", "pooling_mode_cls_token", "max_seq_length", "model_max_length", "do_lower_case",
]  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["bert", "cls", "x.Pooling", ""])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
)


def spec_of(uri: str) -> Any:
    return SimpleNamespace(model_format="pytorch", model_uri=uri)


def matched(uri: str) -> bool | tuple[bool, str]:
    return OpenVinoEmbedding.match_json(SimpleNamespace(model_ability=None, is_builtin=False), spec_of(uri), "none")


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_any_name_is_found_behind_the_uri_it_is_registered_with(
    tiny: Path, tmp_path: Path, name: str
) -> None:
    directory = tmp_path / name / "gte"
    shutil.copytree(tiny, directory)
    plan = ModelPlan(
        name="m", directory=str(directory), dimension=128, max_tokens=512, language=("zh",), stand_in=True,
        engine="openvino", precision="auto", device="cpu", replicas=1, threads=1,
    )  # fmt: skip
    uri = description(plan)["model_specs"][0]["model_uri"]
    assert matched(uri) is True
    assert matched(f"{uri}/") is True


def test_a_link_and_a_plain_path_are_found_and_an_address_elsewhere_is_not(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "链接").symlink_to(tiny)
    assert matched((tmp_path / "链接").as_uri()) is True
    assert matched(str(tiny)) is True
    for elsewhere in ("", "https://example.org/m", "oci://registry/m"):
        assert matched(elsewhere) == (
            False,
            "only built-in models and those registered with a local model_uri are supported",
        )


@given(file=st.sampled_from(FILES), content=JSON, merge=st.booleans())
@settings(max_examples=300)
def test_whatever_the_files_hold_is_a_model_or_a_reason(
    odd_model: Path, file: str, content: object, merge: bool
) -> None:
    path = odd_model / file
    before = path.read_text(encoding="utf-8")
    original = json.loads(before)
    if merge and isinstance(content, dict) and isinstance(original, dict):
        content = {**original, **content}
    try:
        path.write_text(json.dumps(content), encoding="utf-8")
        found = matched(odd_model.as_uri())
        assert found is True or (isinstance(found, tuple) and found[1])
        for read in (read_model, host_side.read_model):
            try:
                read(odd_model)
            except SloError as error:
                assert str(odd_model) in error.message or "support" in error.message
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("odd") / "model"
    write_standin(directory, size="tiny")
    return directory


def test_a_registration_that_breaks_an_engine_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known: list[str] = []

    def generate(family: Any) -> None:
        if family.model_name == "odd":
            raise KeyError("hidden_size")
        known.append(family.model_name)

    families = [SimpleNamespace(model_name=name) for name in ("first", "odd", "last")]
    monkeypatch.setattr(engine, "BUILTIN_EMBEDDING_MODELS", {})
    monkeypatch.setattr(engine, "get_user_defined_embeddings", lambda: families)
    monkeypatch.setattr(engine, "generate_engine_config_by_model_name", generate)
    monkeypatch.setattr(logging.getLogger("xinference"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        engine.publish()
    assert known == ["first", "last"]
    assert "the model 'odd' is passed over" in caplog.text
