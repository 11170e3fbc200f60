"""Graphs are made once, found again, made anew when spoilt, and true to fp32."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from slo.errors import ModelSourceError, QuantizeError
from slo.serve.engine.artefacts import Artefacts, NotMade, is_intact
from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.fidelity import Precision
from slo.serve.engine.helper import make_in_helper
from slo.serve.engine.loading import GRAPH, Workshop, load
from slo.serve.engine.openvino_forward import cpu_kind, supported_precisions
from slo.serve.engine.torch_forward import TorchForward


def write_number(folder: Path) -> None:
    (folder / "number").write_text("42", encoding="utf-8")


def fail_half_way(folder: Path) -> None:
    write_number(folder)
    raise RuntimeError("out of paper")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def test_a_second_start_finds_what_the_first_made(model: Path, tmp_path: Path) -> None:
    Artefacts(model, tmp_path / "cache").folder("fp32", write_number)
    again = Artefacts(model, tmp_path / "cache", may_make=False)
    assert (again.folder("fp32", fail_half_way) / "number").read_text(encoding="utf-8") == "42"


def test_nothing_is_left_of_a_failed_attempt(model: Path, tmp_path: Path) -> None:
    artefacts = Artefacts(model, tmp_path / "cache")
    with pytest.raises(RuntimeError, match="paper"):
        artefacts.folder("fp32", fail_half_way)
    assert sorted(path.name for path in artefacts.directory.iterdir()) == [".fp32.lock", ".in-use", "made-from.json"]
    assert is_intact(artefacts.folder("fp32", write_number))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / "number").write_text("43", encoding="utf-8"), id="a changed byte"),
        pytest.param(lambda folder: (folder / "number").unlink(), id="a missing file"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("{", encoding="utf-8"), id="a cut manifest"),
        pytest.param(lambda folder: (folder / "manifest.json").write_text("[]", encoding="utf-8"), id="no manifest"),
    ],
)
def test_a_spoilt_folder_is_made_anew(model: Path, tmp_path: Path, spoil: object) -> None:
    artefacts = Artefacts(model, tmp_path / "cache")
    assert callable(spoil)
    spoil(artefacts.folder("fp32", write_number))
    assert not is_intact(artefacts.directory / "fp32")
    assert (artefacts.folder("fp32", write_number) / "number").read_text(encoding="utf-8") == "42"


def test_what_a_killed_process_left_of_a_folder_goes_when_it_is_made(model: Path, tmp_path: Path) -> None:
    artefacts = Artefacts(model, tmp_path)
    left = artefacts.directory / ".fp32.k2x9_abc"
    left.mkdir()
    (left / "graph.bin").write_bytes(b"half")
    other = artefacts.directory / ".int8.k2x9_abc"  # perhaps of one that is at work right now
    other.mkdir()

    def make(folder: Path) -> None:
        (folder / "graph.bin").write_text("whole", encoding="utf-8")

    artefacts.folder("fp32", make)
    assert not left.exists()
    assert other.exists()


def test_two_that_start_together_make_it_once(model: Path, tmp_path: Path) -> None:
    made: list[Path] = []
    gate = threading.Barrier(2, timeout=10)

    def make(folder: Path) -> None:
        made.append(folder)
        write_number(folder)

    def start() -> None:
        artefacts = Artefacts(model, tmp_path / "cache")
        gate.wait()
        artefacts.folder("fp32", make)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_changed_model_has_another_hash(model: Path, tmp_path: Path) -> None:
    before = Artefacts(model, tmp_path / "cache", "recipe 1").hash
    assert Artefacts(model, tmp_path / "cache", "recipe 1").hash == before
    assert Artefacts(model, tmp_path / "cache", "recipe 2").hash != before
    (model / "model.safetensors").write_bytes(b"Weights")
    assert Artefacts(model, tmp_path / "cache", "recipe 1").hash != before


def test_a_serving_process_leaves_the_making_to_a_helper(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(NotMade):
        load(tiny, tmp_path, may_make=False)
    make_in_helper(tiny, tmp_path, "fp32")
    assert load(tiny, tmp_path, precision="fp32", may_make=False).choice.precision == "fp32"


def test_the_helper_brings_back_what_went_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelSourceError, match=r"config\.json: missing"):
        make_in_helper(tmp_path, tmp_path / "cache", "auto")


def test_a_start_with_a_warm_cache_imports_neither_torch_nor_transformers(tiny: Path, cache: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from slo.serve.engine.loading import load\n"
        "load(Path(sys.argv[1]), Path(sys.argv[2]), may_make=False)\n"
        "print(sorted({'torch', 'transformers', 'nncf'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(tiny), str(cache)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_fp32_graph_gives_the_vectors_of_sentence_transformers(tiny: Path, cache: Path) -> None:
    texts = ["你好世界", "今天天气真不错，适合出去散步和拍照片呢。", "GPU 16 GB", "", "长" * 700]
    ours = load(tiny, cache, precision="fp32").runtime.embed(texts)
    theirs = SentenceTransformer(str(tiny), device="cpu").encode(texts, show_progress_bar=False)
    assert np.abs(ours - np.asarray(theirs)).max() < 1e-5


@pytest.mark.parametrize("precision", [pytest.param("int8", id="int8"), pytest.param("bf16", id="bf16")])
def test_the_stand_in_passes_the_gate(tiny: Path, cache: Path, precision: str) -> None:
    workshop = Workshop(tiny, cache)
    choice = workshop.choose("auto")
    assert choice.precision == "int8"
    if precision == "bf16":
        choice = workshop.choose("bf16")
    assert choice.fidelity[choice.precision].passes


def test_without_int8_instructions_int8_is_timed_against_fp32(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = Workshop(tiny, cache)
    monkeypatch.setattr("slo.serve.engine.loading.int8_instructions", lambda: True)
    assert workshop.no_gain("int8") == ""
    monkeypatch.setattr("slo.serve.engine.loading.int8_instructions", lambda: False)
    said = workshop.no_gain("int8")
    took_ms = workshop.artefacts.document(f"pass-ms-{cpu_kind()}", lambda: pytest.fail("it was timed once already"))
    assert set(took_ms) == {"int8", "fp32"}
    assert all(0 < value < 10_000 for value in took_ms.values())
    assert bool(said) is (took_ms["int8"] >= took_ms["fp32"])
    assert workshop.choose("auto").precision == ("bf16" if said and "bf16" in supported_precisions() else
                                                 "fp32" if said else "int8")  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "tolerance"), [pytest.param("fp32", 1e-5, id="fp32"), pytest.param("bf16", 3e-2, id="bf16")]
)
def test_the_torch_path_of_gpus_gives_the_same_vectors(
    tiny: Path, cache: Path, precision: Precision, tolerance: float
) -> None:
    runtime = load(tiny, cache, precision="fp32").runtime
    forward = TorchForward(read_model(tiny), device="cpu", precision=precision)
    for packed in runtime.prepare(["你好世界", "今天天气真不错", "长" * 90]).passes:
        assert np.abs(forward(packed) - runtime.infer(packed)).max() < tolerance


def test_torch_half_precision_is_judged_like_any_other(tiny: Path, cache: Path) -> None:
    loaded = load(tiny, cache, precision="bf16", device="cpu:0")
    assert (loaded.device, loaded.choice.precision) == ("cpu:0", "bf16")
    assert loaded.choice.fidelity["bf16"].passes


@pytest.mark.parametrize(
    ("model", "english"), [pytest.param("tiny", False, id="Chinese"), pytest.param("minilm", True, id="English")]
)
def test_a_vocabulary_without_chinese_is_told_from_one_with(
    request: pytest.FixtureRequest, tmp_path: Path, model: str, english: bool
) -> None:
    texts = Workshop(request.getfixturevalue(model), tmp_path).held_out()
    assert texts[0].isascii() is english


def test_a_trained_model_keeps_its_meaning_in_int8(minilm: Path, tmp_path: Path) -> None:
    workshop = Workshop(minilm, tmp_path)
    choice = workshop.choose("int8")
    assert choice.fidelity["int8"].passes, choice.reason
    theirs = SentenceTransformer(str(minilm), device="cpu")
    texts = workshop.held_out()[:20]
    expected = np.asarray(theirs.encode(texts, show_progress_bar=False))
    ours = load(minilm, tmp_path, precision="fp32").runtime.embed(texts)
    assert np.abs(ours - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        pytest.param("config.json", {"model_type": "t5"}, "type 't5'", id="another family"),
        pytest.param("config.json", {"is_decoder": True}, "only encoders", id="a decoder"),
        pytest.param("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pooling by", id="two poolings"),
        pytest.param(
            "modules.json",
            [{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2"}],
            "Dense",
            id="a dense layer",
        ),
    ],
)
def test_a_model_of_another_kind_names_the_way_out(
    tiny: Path, tmp_path: Path, file: str, content: object, message: str
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny, copy)
    path = copy / file
    if isinstance(content, dict):
        content = json.loads(path.read_text(encoding="utf-8")) | content
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(QuantizeError, match=message) as caught:
        read_model(copy)
    assert "sentence_transformers" in str(caught.value)


def test_missing_weights_are_a_fault_of_the_source(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(ModelSourceError, match="no weights"):
        read_model(tmp_path / "model")


def test_weights_that_do_not_fit_the_skeleton_are_refused(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny, copy)
    (copy / "model.safetensors").write_bytes(b"\0" * 64)
    with pytest.raises((QuantizeError, ModelSourceError)):
        Workshop(copy, tmp_path / "cache").fp32_graph()
    assert not list((tmp_path / "cache").rglob(GRAPH))
    assert torch.is_grad_enabled()
