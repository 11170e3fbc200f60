"""A trained model that reads Chinese, end to end: quantised by the command, launched, and asked real questions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slo.client import EmbeddingsClient, cosine
from slo.serve.engine.fidelity import NDCG_LOSS_POINTS
from slo.serve.engine.retrieval import Pairs, ndcg
from tests.chinese_pairs import chinese_pairs
from tests.servers import Server, running, settings, write_config
from tests.trained_chinese import PASSAGE, QUERY, write_model

pytestmark = pytest.mark.server

PAIRS = 512  # of 641: at least 500 are asked for
# Question, the passage that answers it in other words, one that shares characters with the question and no meaning:
# by characters, as the stand-in ranks, the last would win.
MEANINGS = (
    ("附近有什么好吃的", "这条街上的川菜馆味道很不错", "附近有一家修理手机的商店"),
    ("电脑开不了机怎么办", "主机无法启动时，先检查电源线是否接好", "电影票买错了怎么办理退款"),
    ("孩子发烧了吃什么药", "小儿体温过高时可以服用退热剂", "孩子上学走什么路最近"),
    ("首都在哪里", "北京是中国的政治中心", "车站在哪里可以买到票"),
    ("股票亏了很多钱", "投资者在证券市场遭受巨大损失", "邮票可以卖很多钱"),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where model, state and pairs of this module lie."""
    folder = tmp_path_factory.mktemp("chinese")
    write_model(folder / "e5")
    lines = (json.dumps({"query": QUERY + query, "passage": PASSAGE + text}) for query, text in chinese_pairs()[:PAIRS])
    (folder / "pairs.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def quantised(directory: Path) -> Path:
    """The configuration, its graphs made by `slo quantize --pairs`; the report lies beside it."""
    file = write_config(settings(directory, directory / "e5"), directory / "quantize.yaml")
    options = ["--config", str(file), "--precision", "int8", "--pairs", str(directory / "pairs.jsonl"), "--json"]
    command = [sys.executable, "-m", "slo", "quantize", *options]
    (directory / "report.json").write_bytes(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return file


@pytest.fixture(scope="module")
def chinese_server(directory: Path, quantised: Path) -> Iterator[Server]:
    """The model served, from the graphs that were made ahead."""
    yield from running(settings(directory, directory / "e5", precision="int8"), directory)


@pytest.mark.timeout(1800)
def test_int8_finds_what_fp32_finds(quantised: Path, directory: Path) -> None:
    report = json.loads((directory / "report.json").read_bytes())
    int8 = report["fidelity"]["int8"]
    assert report["precision"] == "int8"
    assert int8["pairs"] >= 500
    assert int8["ndcg_fp32"] > 0.7, "the model knows Chinese"
    assert 100 * (int8["ndcg_fp32"] - int8["ndcg"]) <= NDCG_LOSS_POINTS
    assert int8["mean_cosine"] >= 0.995


@pytest.mark.timeout(1800)
def test_a_question_finds_its_meaning_not_its_characters(chinese_server: Server) -> None:
    with EmbeddingsClient(chinese_server.endpoint, chinese_server.model) as client:
        for question, answer, decoy in MEANINGS:
            vectors = client.embed([QUERY + question, PASSAGE + answer, PASSAGE + decoy]).vectors
            assert len(vectors[0]) == 384
            assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]), question
    assert "stand-in" not in chinese_server.launched.label


@pytest.mark.timeout(1800)
def test_the_server_ranks_real_passages(chinese_server: Server) -> None:
    found = chinese_pairs()[::4]
    pairs = Pairs(tuple(QUERY + query for query, _ in found), tuple(PASSAGE + passage for _, passage in found))
    with EmbeddingsClient(chinese_server.endpoint, chinese_server.model, timeout_s=120) as client:
        vectors = [
            vector
            for at in range(0, len(pairs.texts), 16)
            for vector in client.embed(pairs.texts[at : at + 16]).vectors
        ]
    assert ndcg(pairs, np.array(vectors, dtype=np.float32)) > 0.8
