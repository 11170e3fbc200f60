"""A folder that our engine cannot run, on a real server: Xinference's own engine takes it, and the launch says why."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from rich.console import Console
from sentence_transformers import SentenceTransformer

from slo.deploy.job import Progress
from slo.deploy.launch import launch
from tests.servers import running, settings
from tests.tiny_models import TEXTS

pytestmark = pytest.mark.server


def test_another_pooling_is_served_by_xinferences_own_engine(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 128, "pooling_mode_max_tokens": True}), encoding="utf-8"
    )
    for server in running(settings(tmp_path, tmp_path / "model"), tmp_path):
        assert server.launched.plan.engine == "sentence_transformers"
        report = (tmp_path / "launch.txt").read_text(encoding="utf-8")
        assert "engine sentence_transformers instead of openvino: pooling by max_tokens is not supported" in report
        body = {"model": server.model, "input": ["你好", "今天天气"], "normalize_embeddings": True}
        answer = requests.post(f"{server.endpoint}/v1/embeddings", json=body, timeout=30)
        vectors = np.asarray([row["embedding"] for row in answer.json()["data"]])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_what_conversion_finds_out_leads_to_xinferences_own_engine_as_well(tiny_model: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    # Long texts lose their beginning, not their end: no file of the modules says so, the vectors do.
    for name, change in {
        "tokenizer_config": {"truncation_side": "left"},
        "sentence_bert_config": {"max_seq_length": 16},
    }.items():
        content = json.loads((model / f"{name}.json").read_text(encoding="utf-8"))
        (model / f"{name}.json").write_text(json.dumps(content | change), encoding="utf-8")
    said = "engine sentence_transformers instead of openvino: our vectors differ from those of sentence-transformers"
    for server in running(settings(tmp_path, model), tmp_path):
        assert server.launched.plan.engine == "sentence_transformers"
        assert said in (tmp_path / "launch.txt").read_text(encoding="utf-8")
        with (tmp_path / "again.txt").open("w", encoding="utf-8") as report:
            again = launch(server.config, Progress(Console(file=report, width=200)))
        assert (again.changed, again.plan) == (False, server.launched.plan)
        assert said in (tmp_path / "again.txt").read_text(encoding="utf-8"), "known without another conversion"


def test_a_built_in_model_is_served_by_its_name_on_our_engine_under_the_uid_that_clients_use(
    tiny_model: Path, tmp_path: Path
) -> None:
    """No registration: Xinference refuses one of a name that it has."""
    expected = SentenceTransformer(str(tiny_model), device="cpu").encode(TEXTS)
    config = settings(tmp_path, tiny_model).replaced(
        **{"model.name": "bge-small-zh-v1.5", "model.uid": "embeddings", "server.precision": "fp32"}
    )
    for server in running(config, tmp_path):
        assert server.launched.plan.engine == "openvino"
        answer = requests.post(
            f"{server.endpoint}/v1/embeddings", json={"model": "embeddings", "input": TEXTS}, timeout=30
        ).json()
        np.testing.assert_allclose([row["embedding"] for row in answer["data"]], expected, atol=1e-5)
        (listed,) = requests.get(f"{server.endpoint}/v1/models", timeout=30).json()["data"]
        assert (listed["id"], listed["model_name"]) == ("embeddings", "bge-small-zh-v1.5")
        with (tmp_path / "again.txt").open("w", encoding="utf-8") as report:
            again = launch(server.config, Progress(Console(file=report, width=200)))
        assert (again.changed, again.plan) == (False, server.launched.plan)


def test_a_model_on_xinferences_own_engine_stands_behind_the_door(tiny_model: Path, tmp_path: Path) -> None:
    name, model = "text2vec-base-chinese-paraphrase", Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (model / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 128, "pooling_mode_max_tokens": True}), encoding="utf-8"
    )
    made = SentenceTransformer(str(model), device="cpu")
    config = settings(tmp_path, model).replaced(**{"model.name": name})
    for server in running(config, tmp_path):
        assert server.launched.plan.engine == "sentence_transformers"
        url = f"{server.endpoint}/v1/embeddings"

        def ask(url: str = url, **data: object) -> requests.Response:
            return requests.post(url, json={"model": name, **data}, timeout=30)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda text: ask(input=text).json(), TEXTS))
        expected = made.encode(TEXTS, normalize_embeddings=True)
        np.testing.assert_allclose([answer["data"][0]["embedding"] for answer in answers], expected, atol=1e-5)
        tokens = [len(ids) for ids in made.tokenizer(TEXTS)["input_ids"]]
        assert [answer["usage"]["total_tokens"] for answer in answers] == tokens, "each its own, not the batch's"
        assert ask(input=TEXTS).headers["cache-status"] == "xinference-slo; hit"
        prompted = ask(input="你好", prompt="天")
        assert "cache-status" not in prompted.headers, "Xinference's own route"
        found = np.asarray(prompted.json()["data"][0]["embedding"])
        np.testing.assert_allclose(found, made.encode("天你好", normalize_embeddings=True), atol=1e-5)
        report = requests.get(f"{server.endpoint}/slo/api/status", timeout=30).json()
        assert [model["model"] for model in report["models"]] == [name]
        assert report["models"][0]["replicas"][0]["engine"]["engine"] == "sentence_transformers"
        assert requests.get(f"{server.endpoint}/slo/readyz", timeout=30).status_code == 200
        window = requests.get(f"{server.endpoint}/slo/api/window?seconds=60&model={name}", timeout=30).json()
        assert window["availability"]["total"] == window["availability"]["good"] == len(TEXTS) + 2
