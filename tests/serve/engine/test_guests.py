"""Xinference's own engines with the door's methods: the same vectors, true counts, whole through a pickle."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pytest
from xinference.model.embedding import EMBEDDING_ENGINES, SUPPORTED_ENGINES
from xinference.model.embedding.core import create_embedding_model_instance

from slo.serve.engine.engine import OpenVinoEmbedding, publish
from slo.serve.engine.guests import Guest, guest_of
from slo.serve.engine.model_process import Leaving
from tests.tiny_models import TEXTS, write_named

NAME = "text2vec-base-chinese-paraphrase"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    publish()
    directory = tmp_path_factory.mktemp("guest") / "model"
    write_named(directory, NAME, max_tokens=64)
    return directory


def instance(files: Path) -> Any:
    return create_embedding_model_instance(
        "uid", NAME, "sentence_transformers", "pytorch", "none", model_path=str(files), device="cpu"
    )


def test_all_engines_but_ours_are_guests_and_stay_what_they_are() -> None:
    publish()
    publish()  # harmless
    for name, classes in SUPPORTED_ENGINES.items():
        for each in classes:
            assert each is OpenVinoEmbedding if name == "openvino" else issubclass(each, Guest)
            assert guest_of(each) is each
    offers = [offer for engines in EMBEDDING_ENGINES.values() for several in engines.values() for offer in several]
    assert offers
    assert all(hasattr(offer["embedding_class"], "embed_batch") for offer in offers)


async def test_a_guest_gives_the_engines_vectors_and_the_tokens_of_each_text(files: Path) -> None:
    guest = instance(files)
    guest.load()
    expected = guest._create_embedding(TEXTS, model_uid="uid")
    packed, tokens, truncated, stages_ms = await guest.embed_batch(TEXTS)
    vectors = np.frombuffer(packed, dtype="<f4").reshape(len(TEXTS), -1)
    np.testing.assert_allclose(vectors, [row["embedding"] for row in expected["data"]], atol=1e-6)
    counts = guest._model.tokenizer(TEXTS, truncation=True, max_length=64)["input_ids"]
    assert tokens == [len(ids) for ids in counts]
    together = await asyncio.gather(*(guest.embed_batch([text]) for text in TEXTS * 4))  # one computes, others wait
    assert [each[1][0] for each in together] == tokens * 4, "of each its own"
    assert truncated == [0] * len(TEXTS)
    assert set(stages_ms) == {"wait", "infer"}
    status = await guest.engine_status()
    assert status["guest"] is True
    assert status["dimensions"] == vectors.shape[1]
    assert status["texts"] == 5 * len(TEXTS)
    guest.stop()
    with pytest.raises(Leaving):
        await guest.embed_batch(["a"])


def test_a_guest_reaches_the_model_process_by_pickle(files: Path, tmp_path: Path) -> None:
    (tmp_path / "guest.pickle").write_bytes(cloudpickle.dumps(instance(files)))
    program = (
        "import asyncio, pickle, pathlib, sys\n"
        "guest = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "guest.load()\n"
        "print(len(asyncio.run(guest.embed_batch(['a', 'b']))[1]), 'tokens of texts')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "guest.pickle")], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("2 tokens of texts\n")


class Engine:
    """An engine that is told what to answer, and counts who is inside."""

    def __init__(self, total: int) -> None:
        self.total, self.inside, self.most = total, 0, 0
        self._model_path = str(Path(__file__).parent)
        self._kwargs: dict[str, Any] = {}
        self.model_family = SimpleNamespace(max_tokens=512, model_engine="toy", model_ability=[])

    def load(self) -> None:
        pass

    def _create_embedding(self, sentences: list[str], **_: Any) -> dict[str, Any]:
        self.inside += 1
        self.most = max(self.most, self.inside)
        time.sleep(0.002)
        self.inside -= 1
        return {
            "data": [{"embedding": [float(len(text)), 1.0]} for text in sentences],
            "usage": {"total_tokens": self.total},
        }


@pytest.mark.parametrize(
    ("total", "expected"), [(40, [10, 30]), (-1, [11, 33])], ids=["by its sum", "it does not count"]
)
async def test_an_engine_that_counts_the_whole_call_has_its_tokens_shared_out(total: int, expected: list[int]) -> None:
    guest: Any = guest_of(Engine)(total)
    guest.load()
    _, tokens, _, _ = await guest.embed_batch(["a" * 10, "b" * 30])
    assert tokens == expected


async def test_the_door_and_xinferences_route_never_compute_at_the_same_time() -> None:
    guest: Any = guest_of(Engine)(4)
    guest.load()
    threads = [threading.Thread(target=guest._create_embedding, args=(["x"],)) for _ in range(5)]
    for thread in threads:
        thread.start()
    await asyncio.gather(*(guest.embed_batch([f"t{number}"]) for number in range(5)))
    for thread in threads:
        thread.join()
    assert guest.most == 1


async def test_vllms_asynchronous_engine_is_asked_in_its_own_way() -> None:
    class Asynchronous(Engine):
        def load(self) -> None:
            self.create_embedding = self._async_create_embedding

        async def _async_create_embedding(self, sentences: list[str], **_: Any) -> dict[str, Any]:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.01)
            self.inside -= 1
            return {"data": [{"embedding": [1.0]} for _ in sentences], "usage": {"total_tokens": 3}}

        def _create_embedding(self, sentences: list[str], **_: Any) -> dict[str, Any]:
            raise AssertionError("only the asynchronous way works")

    guest: Any = guest_of(Asynchronous)(4)
    guest.load()
    await asyncio.gather(*(guest.embed_batch([f"t{number}"]) for number in range(5)))
    assert guest.most == 5
    assert (await guest.engine_status())["dimensions"] is None
