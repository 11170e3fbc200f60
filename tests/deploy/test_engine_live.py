"""A folder that our engine cannot run, on a real server: Xinference's own engine takes it, and the launch says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import requests
from rich.console import Console

from slo.deploy.job import Progress
from slo.deploy.launch import launch
from tests.servers import running, settings

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
