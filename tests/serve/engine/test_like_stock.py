"""
The same request to Xinference's own engine and, over HTTP, to ours: the same vectors, whatever the model's folder says.

Stock runs in this process: `SentenceTransformerEmbeddingModel`, as Xinference launches it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from xinference.model.embedding.core import EmbeddingModelFamilyV2
from xinference.model.embedding.sentence_transformers.core import SentenceTransformerEmbeddingModel

from slo.serve.door.batcher import Embedded
from slo.serve.door.passes import ReplicaLoad
from slo.serve.engine.engine import OpenVinoEmbedding
from tests.serve.fakes import FakeFinder
from tests.serve.http_door import Door, opened

HIDDEN = 128
TEXTS = [
    "你好", "今天天气真不错，适合出去散步", "Embedding MODELS serve many texts, don't they?", "未知 🤖 字符 ﬁ É",
    "长" * 700, " ",
]  # fmt: skip
PROMPTS = {"query": "查询：", "passage": "passage: "}

Json = dict[str, Any]


def write_model(
    tiny: Path, directory: Path, modules: Sequence[str] | None, *, prompts: Json | None = None, limit: int = 64
) -> Path:
    """The tiny stand-in behind other modules: None for no modules.json, else e.g. ["cls", "Dense", "Normalize"]."""
    shutil.copytree(tiny, directory)
    for name in ("modules.json", "1_Pooling", "2_Normalize"):
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if modules is None:
        return directory
    listed = [("Transformer", "")]
    for name in modules:
        kind = name if name in ("Dense", "Normalize") else "Pooling"
        folder = f"{len(listed)}_{kind}"
        listed.append((kind, folder))
        (directory / folder).mkdir()
        if kind == "Pooling":
            _write(directory / folder / "config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode": name})
        elif kind == "Dense":
            _write_dense(directory / folder)
    types = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(listed)
    ]
    _write(directory / "modules.json", types)
    _write(directory / "sentence_bert_config.json", {"max_seq_length": limit, "do_lower_case": False})
    if prompts is not None:
        _write(directory / "config_sentence_transformers.json", prompts)
    return directory


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_dense(folder: Path) -> None:
    activation = "torch.nn.modules.activation.Tanh"
    _write(
        folder / "config.json",
        {"in_features": HIDDEN, "out_features": 32, "bias": True, "activation_function": activation},
    )
    source = np.random.default_rng(5)
    weights = {"linear.weight": (32, HIDDEN), "linear.bias": (32,)}
    tensors = {name: source.standard_normal(shape).astype(np.float32) for name, shape in weights.items()}
    save_file(tensors, folder / "model.safetensors")


def family(directory: Path, **spec: object) -> EmbeddingModelFamilyV2:
    base = {
        "model_format": "pytorch", "model_hub": "huggingface", "model_id": None, "model_uri": directory.as_uri(),
        "model_revision": None, "quantization": "none",
    }  # fmt: skip
    facts = {"version": 2, "model_name": "m", "dimensions": HIDDEN, "max_tokens": 48, "language": ["zh"]}
    return EmbeddingModelFamilyV2(**facts, model_specs=[base | spec])


class Stock:
    """Xinference's own engine. `launched` are what it is launched with."""

    def __init__(self, directory: Path, **launched: Any) -> None:
        self._model = SentenceTransformerEmbeddingModel("m-rep0", str(directory), family(directory), **launched)
        torch.manual_seed(0)
        self._model.load()

    def answer(self, texts: Any, **fields: Any) -> Json:
        """What Xinference's handler and `EmbeddingModel.create_embedding` make of a request."""
        fields = {name: value for name, value in fields.items() if name not in ("user", "encoding_format")}
        limit = fields.pop("truncate_prompt_tokens", None)
        if limit is not None:
            texts = self._model._truncate_sentences(texts, limit)
        answer: Json = self._model._create_embedding(texts, model_uid="m", **fields)
        return answer


class EngineReplica:
    """Our engine in this process, in the place of one behind an actor."""

    def __init__(self, engine: OpenVinoEmbedding, status: Json) -> None:
        self.load = ReplicaLoad()
        self.identity = ("m-rep0", "127.0.0.1:1")
        self.status = status
        self._engine = engine

    async def embed(self, texts: list[str]) -> Embedded:
        return await self._engine.embed_batch(texts)

    async def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        return await self._engine.cut(list(texts), limit)

    async def refresh_status(self) -> None:
        return None


@contextlib.contextmanager
def loaded(directory: Path, cache: Path) -> Iterator[OpenVinoEmbedding]:
    """Our engine in fp32."""
    engine = OpenVinoEmbedding(
        "m-rep0", str(directory), family(directory), slo_models_dir=str(cache), slo_precision="fp32", slo_pass_tokens=96
    )
    engine.load()
    yield engine
    engine.stop()


@contextlib.asynccontextmanager
async def serving(engine: OpenVinoEmbedding) -> AsyncIterator[Door]:
    """It behind our front door."""
    replica: Any = EngineReplica(engine, await engine.engine_status())
    async with opened(FakeFinder(m=[replica])) as door:
        yield door


def matrix(answer: Json) -> Any:
    return np.asarray([row["embedding"] for row in answer["data"]], dtype=np.float64)


async def same(door: Door, stock: Stock, fields: Json, why: Json, *, stock_fields: Json | None = None) -> None:
    """Both answer alike. `why` is shown when they do not."""
    status, ours, _ = await door.embed({"model": "m", "input": TEXTS, **fields})
    assert status == 200, (why, ours)
    theirs = stock.answer(TEXTS, **(fields if stock_fields is None else stock_fields))
    expected = matrix(theirs)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(matrix(ours) / scale, expected / scale, atol=5e-6, err_msg=str(why))
    assert ours["usage"] == theirs["usage"], why


NORMALISE: list[Json] = [{}, {"normalize_embeddings": True}, {"normalize_embeddings": False}]
DIMENSIONS = [None, HIDDEN, HIDDEN - 1]
OURS = [None, ["cls"], ["mean"], ["cls", "Normalize"], ["mean", "Normalize"]]
THEIRS = [
    [], ["max"], ["lasttoken"], ["weightedmean"], ["cls", "Dense"], ["mean", "Dense", "Normalize"], ["Normalize"],
    ["Normalize", "mean"],
]  # fmt: skip


@pytest.mark.parametrize("modules", OURS, ids=str)
async def test_every_folder_answers_as_stock_does(tiny: Path, tmp_path: Path, modules: list[str] | None) -> None:
    directory = write_model(tiny, tmp_path / "model", modules)
    # Stock honours `dimensions` at the launch only; ours is the same cut for one request.
    stock = {count: Stock(directory, dimensions=count) for count in DIMENSIONS}
    with loaded(directory, tmp_path / "cache") as engine:
        async with serving(engine) as door:
            for fields, count in itertools.product(NORMALISE, DIMENSIONS):
                asked = fields if count is None else {**fields, "dimensions": count}
                await same(door, stock[count], asked, {"fields": asked}, stock_fields=fields)


@pytest.mark.parametrize("modules", THEIRS, ids=str)
def test_a_folder_that_is_not_for_our_engine_is_refused_with_the_reason(
    tiny: Path, tmp_path: Path, modules: list[str]
) -> None:
    directory = write_model(tiny, tmp_path / "model", modules)
    described = family(directory)
    answer = OpenVinoEmbedding.match_json(described, described.model_specs[0], "none")
    assert isinstance(answer, tuple)
    assert answer[0] is False
    assert "sentence_transformers" in answer[1]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt_name": "passage"},
        {"prompt_name": "document"},
        {"prompt": "说明："},
        {"prompt": ""},
        {"prompt": "a", "prompt_name": "passage"},
        {"prompt": None, "prompt_name": None},
        {"task": ""},
        {"user": "u", "batch_size": 2, "foo": 1},
        {"normalize_embeddings": None},
        {"truncate_prompt_tokens": 10},
        {"truncate_prompt_tokens": 10, "prompt_name": "passage", "normalize_embeddings": False},
        {"truncate_prompt_tokens": 300},
        {"truncate_prompt_tokens": 3},
        {"truncate_prompt_tokens": 2},
        {"truncate_prompt_tokens": 1},
        {"truncate_prompt_tokens": 0},
        {"truncate_prompt_tokens": -1},
    ],
    ids=str,
)
@pytest.mark.parametrize("default", [None, "query"])
async def test_what_stock_honours_in_a_request_is_honoured(like_stock: Any, fields: Json, default: str | None) -> None:
    engine, stock = like_stock[default]
    async with serving(engine) as door:
        await same(door, stock, fields, fields)
        await same(door, stock, {}, {"after": fields})  # the cache knows one from the other


@pytest.fixture(scope="module")
def like_stock(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str | None, tuple[OpenVinoEmbedding, Stock]]]:
    """Our engine and stock's, by the name of the model's default prompt."""
    folder = tmp_path_factory.mktemp("like-stock")
    with contextlib.ExitStack() as stack:
        engines: dict[str | None, tuple[OpenVinoEmbedding, Stock]] = {}
        for default in (None, "query"):
            prompts = {"prompts": PROMPTS, "default_prompt_name": default}
            directory = write_model(tiny, folder / str(default), ["mean"], prompts=prompts)
            _tidy(directory)
            engines[default] = stack.enter_context(loaded(directory, folder / "cache")), Stock(directory)
        yield engines


def _tidy(directory: Path) -> None:
    """Decode as many published tokenizers say."""
    path = directory / "tokenizer_config.json"
    _write(path, json.loads(path.read_text(encoding="utf-8")) | {"clean_up_tokenization_spaces": True})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt_name": "absent"}, "passage"),
        ({"prompt_name": 5}, "a string"),
        ({"prompt": ["a"]}, "a string"),
        ({"prompt": "x" * 9000}, "at most 8192"),
        ({"return_sparse": True}, "dense vectors only"),
        ({"output_value": "token_embeddings"}, "sentence embeddings only"),
        ({"instruction": "find it"}, "'prompt'"),
        ({"task": "retrieval"}, "'prompt_name'"),
        ({"normalize_embeddings": "no"}, "true or false"),
        ({"truncate_prompt_tokens": 1.5}, "whole number"),
    ],
    ids=str,
)
async def test_what_stock_does_not_honour_is_a_400_that_says_so(like_stock: Any, fields: Json, words: str) -> None:
    async with serving(like_stock[None][0]) as door:
        status, answer, _ = await door.embed({"model": "m", "input": "你好", **fields})
    assert (status, answer["error"]["param"]) == (400, next(iter(fields)))
    assert words in answer["error"]["message"]


async def test_a_limit_of_the_requests_own_and_dimensions_hold_together(like_stock: Any) -> None:
    async with serving(like_stock[None][0]) as door:
        fields = {"truncate_prompt_tokens": 10, "dimensions": 16}
        _, answer, _ = await door.embed({"model": "m", "input": "今" * 40, **fields})
    assert answer["usage"]["prompt_tokens"] == 10
    assert len(answer["data"][0]["embedding"]) == 16


async def test_what_was_cut_is_told_in_characters_of_the_text(like_stock: Any) -> None:
    words = "ab " * 100  # a token each; 64 tokens are read, 2 of them special
    async with serving(like_stock[None][0]) as door:
        for text, unread in [("长" * 700, 700 - 62), ("短", 0), ("🤖长" * 50, 100 - 62), (words, 300 - 185)]:
            _, answer, headers = await door.embed({"model": "m", "input": text})
            told = f"texts=1, characters={unread}" if unread else None
            assert headers.get("x-slo-truncated") == told, (text[:8], answer["usage"])
