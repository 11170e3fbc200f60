"""A folder that our engine cannot run, on a real server: Xinference's own engine takes it, and the launch says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import requests

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
