"""The engine as Xinference and the front door call it."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from xinference.model.embedding import SUPPORTED_ENGINES
from xinference.model.embedding.core import EmbeddingModelFamilyV2

from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.engine import ENGINE, OpenVinoEmbedding, publish
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.line import Line
from slo.serve.engine.loading import Loaded, load
from slo.serve.engine.model_process import Leaving
from slo.serve.engine.packing import Pass
from slo.serve.engine.runtime import Runtime
from slo.serve.engine.tokens import TextTokenizer

CHARACTERS = "你好世界今天气真不错适合出去散步拍照片"
some_texts = st.lists(st.text(alphabet=CHARACTERS, max_size=60), min_size=1, max_size=12)


def family(directory: Path, **changes: object) -> EmbeddingModelFamilyV2:
    spec = {
        "model_format": "pytorch",
        "model_hub": "huggingface",
        "model_id": None,
        "model_uri": directory.as_uri(),
        "model_revision": None,
        "quantization": "none",
    }
    facts = {"version": 2, "model_name": "tiny", "dimensions": 128, "max_tokens": 512, "language": ["zh"]}
    return EmbeddingModelFamilyV2(**facts, model_specs=[spec | changes])


@pytest.fixture(scope="module")
def exact(tiny: Path, cache: Path) -> Loaded:
    return load(tiny, cache, precision="fp32", threads=2, streams=2, pass_tokens=96)


@pytest.fixture(scope="module")
def engine(tiny: Path, cache: Path) -> Iterator[OpenVinoEmbedding]:
    built = OpenVinoEmbedding("tiny-rep0", str(tiny), family(tiny), slo_models_dir=str(cache), slo_precision="int8")
    travelled: OpenVinoEmbedding = pickle.loads(pickle.dumps(built))  # noqa: S301 - as Xinference does
    travelled.load()
    yield travelled
    travelled.stop()


class Scripted:
    """A forward pass that waits at a gate and fails when told; a vector is the text's first tokens."""

    def __init__(self, fail_on: int | None = None) -> None:
        self.calls = 0
        self.fail_on = fail_on
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, packed: Pass) -> Vectors:
        assert self.gate.wait(10)
        self.calls += 1
        if self.calls == self.fail_on:
            raise ArithmeticError("a spark flew")
        starts = packed.rows[: len(packed.texts)]
        return np.repeat(packed.ids[starts + 1].astype(np.float32)[:, None], 128, axis=1)


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> TextTokenizer:
    return TextTokenizer(tiny / "tokenizer.json", read_model(tiny))


def scripted_line(tiny: Path, tokenizer: TextTokenizer, forward: Scripted, pass_tokens: int = 96) -> Line:
    return Line(Runtime(read_model(tiny), tokenizer, forward, pass_tokens=pass_tokens))


@settings(max_examples=40, deadline=None)
@given(some_texts, st.randoms(use_true_random=False))
def test_a_vector_is_the_same_alone_or_packed_with_any_others(exact: Loaded, texts: list[str], random: object) -> None:
    together = exact.runtime.embed(texts)
    alone = np.concatenate([exact.runtime.embed([text]) for text in texts])
    assert np.abs(together - alone).max() <= 1e-5


@settings(max_examples=40, deadline=None)
@given(some_texts)
def test_a_vector_is_the_same_on_a_stream_of_its_own(exact: Loaded, texts: list[str]) -> None:
    runtime = exact.runtime
    tokens = runtime.tokenise(texts)
    batch = runtime.batch(tokens, runtime.plan(tokens, narrow=True), narrow=True)
    narrow = runtime.finish(batch, [runtime.infer(packed, index % 2) for index, packed in enumerate(batch.passes)])
    assert np.abs(narrow - runtime.embed(texts)).max() <= 1e-5


async def test_int8_answers_agree_with_sentence_transformers(engine: OpenVinoEmbedding, tiny: Path) -> None:
    texts = ["你好世界", "今天天气真不错", "适合出去散步", "长" * 600]
    packed, tokens, truncated, stages = await engine.embed_batch(texts)
    vectors = np.frombuffer(packed, "<f4").reshape(4, 128)
    theirs = np.asarray(SentenceTransformer(str(tiny), device="cpu").encode(texts, show_progress_bar=False))
    cosines = (vectors * theirs).sum(1)
    assert cosines[:3].min() > 0.995
    assert cosines[3] > 0.97  # one character 600 times is not what ranges were set for
    assert tokens == [6, 9, 8, 512]
    assert truncated == [0, 0, 0, len(texts[3]) - 510]
    assert set(stages) == {"tokenise", "infer", "finish", "wait"}
    assert min(stages.values()) >= 0


async def test_no_texts_are_no_work(engine: OpenVinoEmbedding) -> None:
    assert (await engine.embed_batch([]))[:3] == (b"", [], [])


@pytest.mark.parametrize(
    "sentences", [pytest.param("你好", id="one string"), pytest.param(["你好", "世界\ud800"], id="a lone surrogate")]
)
async def test_xinferences_own_route_gets_openais_shape(engine: OpenVinoEmbedding, sentences: str | list[str]) -> None:
    answer = await engine.create_embedding(sentences, model_uid="gte", anything_else=1)
    count = 1 if isinstance(sentences, str) else len(sentences)
    assert (answer["object"], answer["model"], answer["model_replica"]) == ("list", "gte", "tiny-rep0")
    assert [row["index"] for row in answer["data"]] == list(range(count))
    assert all(len(row["embedding"]) == 128 for row in answer["data"])
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    json.dumps(answer)


async def test_the_status_tells_precision_work_and_memory(engine: OpenVinoEmbedding) -> None:
    await engine.embed_batch(["你好"])
    status = await engine.engine_status()
    assert status["engine"] == ENGINE
    assert status["precision"] == "int8"
    assert status["stand_in"] is True
    assert (status["dimensions"], status["max_tokens"]) == (128, 512)
    assert all(isinstance(status[key], int) and status[key] for key in ("passes", "tokens", "rss_bytes", "pid"))
    pickle.dumps(status)


async def test_callers_at_the_same_time_get_their_own_vectors(engine: OpenVinoEmbedding) -> None:
    texts = ["".join(np.random.default_rng(n).choice(list(CHARACTERS), 3 + n)) for n in range(30)]
    alone = [(await engine.embed_batch([text]))[0] for text in texts]
    together = await asyncio.gather(*(engine.embed_batch([text]) for text in texts))
    assert [packed for packed, *_ in together] == alone


async def test_a_failing_batch_fails_its_own_caller_only(tiny: Path, tokenizer: TextTokenizer) -> None:
    line = scripted_line(tiny, tokenizer, Scripted(fail_on=2))
    results = await asyncio.gather(*(line.embed([text]) for text in "你好世"), return_exceptions=True)
    line.close()
    assert [type(result).__name__ for result in results] == ["BatchAnswer", "ArithmeticError", "BatchAnswer"]


async def test_a_cancelled_call_drops_its_waiting_passes_and_harms_nobody(tiny: Path, tokenizer: TextTokenizer) -> None:
    forward = Scripted()
    forward.gate.clear()
    line = scripted_line(tiny, tokenizer, forward, pass_tokens=8)
    first = asyncio.create_task(line.embed(["你"]))
    dropped = asyncio.create_task(line.embed(["好好好好好"] * 5))
    last = asyncio.create_task(line.embed(["世"]))
    await asyncio.sleep(0.05)
    dropped.cancel()
    await asyncio.sleep(0)
    forward.gate.set()
    expected = tokenizer(["你", "世"]).ids
    assert [(await task).vectors[0, 0] for task in (first, last)] == [ids[1] for ids in expected]
    with pytest.raises(asyncio.CancelledError):
        await dropped
    line.close()
    assert forward.calls == 2


async def test_the_event_loop_stays_free_during_an_inference(tiny: Path, tokenizer: TextTokenizer) -> None:
    forward = Scripted()
    forward.gate.clear()
    line = scripted_line(tiny, tokenizer, forward)
    waiting = asyncio.create_task(line.embed(["你"]))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    forward.gate.set()
    assert (await waiting).tokens == [3]
    line.close()


async def test_a_long_call_lets_others_in_between(tiny: Path, tokenizer: TextTokenizer) -> None:
    line = scripted_line(tiny, tokenizer, Scripted(), pass_tokens=8)
    order: list[str] = []

    async def call(name: str, texts: list[str]) -> None:
        await line.embed(texts)
        order.append(name)

    await asyncio.gather(call("long", ["好好好好好"] * 40), call("short", ["世"]))
    line.close()
    assert order == ["short", "long"]


async def test_after_stop_the_threads_are_gone_and_calls_are_refused(tiny: Path, tokenizer: TextTokenizer) -> None:
    before = threading.active_count()
    line = scripted_line(tiny, tokenizer, Scripted())
    await line.embed(["你"])
    line.close()
    assert threading.active_count() == before
    with pytest.raises(Leaving):
        await line.embed(["你"])


async def test_a_line_that_is_closed_finishes_what_it_has_and_takes_no_more(
    tiny: Path, tokenizer: TextTokenizer
) -> None:
    forward = Scripted()
    forward.gate.clear()
    line = scripted_line(tiny, tokenizer, forward, pass_tokens=8)
    calls = [asyncio.create_task(line.embed(["你好" * 3])) for _ in range(3)]
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(asyncio.to_thread(line.close))
    await asyncio.sleep(0.05)
    with pytest.raises(Leaving):
        await line.embed(["世"])
    assert not closing.done()
    forward.gate.set()
    assert [len(answer.tokens) for answer in await asyncio.gather(*calls)] == [1, 1, 1]
    await closing


def test_warming_up_meets_every_shape_once(tiny: Path, tokenizer: TextTokenizer) -> None:
    seen: list[int] = []

    def forward(packed: Pass) -> Vectors:
        seen.append(len(packed.ids))
        return np.zeros((len(packed.texts), 128), np.float32)

    runtime = Runtime(read_model(tiny), tokenizer, forward, pass_tokens=96)
    runtime.warm_up()
    assert tuple(seen) == runtime.shapes.counts


def test_publishing_twice_lists_the_engine_once() -> None:
    publish()
    publish()
    assert SUPPORTED_ENGINES[ENGINE] == [OpenVinoEmbedding]


@pytest.mark.parametrize(
    ("changes", "matches"),
    [
        pytest.param({}, True, id="a local BERT"),
        pytest.param({"model_uri": None}, False, id="no local files"),
        pytest.param({"model_uri": "file:///nowhere"}, False, id="missing files"),
    ],
)
def test_it_offers_itself_only_for_models_that_it_can_serve(
    tiny: Path, changes: dict[str, object], matches: bool
) -> None:
    description = family(tiny, **changes)
    answer = OpenVinoEmbedding.match_json(description, description.model_specs[0], "none")
    assert (answer is True) is matches
    assert (OpenVinoEmbedding.match(description, description.model_specs[0], "none") is True) is matches


async def test_loading_takes_no_request_with_it_into_the_collector(engine: OpenVinoEmbedding) -> None:
    import gc  # noqa: PLC0415

    assert gc.get_freeze_count() > 0
    begun = time.perf_counter()
    gc.collect()
    assert time.perf_counter() - begun < 5
