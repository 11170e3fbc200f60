"""
The engine "openvino" as Xinference sees it. With `extension`'s modules the only place here that imports Xinference.

An instance is built in the worker, pickled into the model process and loaded there; so `__init__` only stores, and
`load` opens what cannot be pickled.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from xinference.model.embedding import (
    BUILTIN_EMBEDDING_MODELS,
    EMBEDDING_ENGINES,
    SUPPORTED_ENGINES,
    generate_engine_config_by_model_name,
)
from xinference.model.embedding.core import EmbeddingModel
from xinference.model.embedding.custom import get_user_defined_embeddings
from xinference.model.utils import parse_uri

from slo.errors import SloError
from slo.host import offer_to_oom_killer, resident_bytes
from slo.model_names import ARCHITECTURES, OUR_ARCHITECTURES
from slo.serve.engine.artefacts import NotMade
from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.guests import guest_of
from slo.serve.engine.helper import make_in_helper
from slo.serve.engine.line import BatchAnswer, Line
from slo.serve.engine.loading import Loaded, load
from slo.serve.engine.model_process import ModelProcess

logger = logging.getLogger("xinference.slo")
ENGINE = "openvino"
MODELS_DIRECTORY = ".slo/models"


class OpenVinoEmbedding(EmbeddingModel):  # type: ignore[misc]
    """A BERT-like embedding model on packed int8, bf16 or fp32 inference.

    Keys of the launch body that it understands: `slo_precision`, `slo_models_dir`, `slo_threads`, `slo_streams`,
    `slo_pass_tokens`, `device` ("cpu", "cuda", "cuda:1").
    """

    allow_batch = True  # calls may overlap: the line below orders them

    @classmethod
    def check_lib(cls) -> bool | tuple[bool, str]:
        """Whether the libraries are there."""
        try:
            import openvino  # noqa: PLC0415 - the question is whether it can be
        except ImportError as error:
            return False, f"openvino cannot be imported: {error}"
        return bool(openvino.__version__)

    @classmethod
    def match_json(cls, model_family: Any, model_spec: Any, quantization: str) -> bool | tuple[bool, str]:  # noqa: ARG003
        """Whether this engine serves the model: judged by its files, or of a built-in one by its name."""
        if model_spec.model_format != "pytorch":
            return False, f"the format {model_spec.model_format!r} is not supported, only pytorch"
        if model_family.model_ability:
            return False, "only text is supported"
        if model_family.is_builtin:
            kind = ARCHITECTURES.get(model_family.model_name, "another")
            return kind in OUR_ARCHITECTURES or (False, f"models of type {kind!r} are not supported")
        scheme, path = parse_uri(model_spec.model_uri or "")  # blanks and Chinese are percent-encoded in it
        if scheme != "file" or not path:
            return False, "only built-in models and those registered with a local model_uri are supported"
        try:
            read_model(Path(path))
        except SloError as error:
            return False, str(error)
        return True

    def load(self) -> None:
        """Open the model, warm. Converts and quantises on the first start, minutes, in a helper process.

        Raises ModelSourceError or QuantizeError.
        """
        offer_to_oom_killer()
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would take turns with inference
        self._loaded = self._load()
        self._line = Line(self._loaded.runtime)
        gc.collect()
        self._loaded_s = time.monotonic()
        gc.freeze()  # a collection then looks at a request's own objects only

    def stop(self) -> None:
        """Finish what is there, take no more, and end the threads. Xinference calls it in a thread of its own."""
        line = self.__dict__.get("_line")
        if line is not None:
            line.close()

    async def embed_batch(self, texts: list[str]) -> tuple[bytes, list[int], list[int], dict[str, float]]:
        """What the front door calls: float32 little-endian rows, tokens and unread characters per text, ms by stage."""
        answer = await self._line.embed(texts)
        return answer.vectors.tobytes(), answer.tokens, answer.truncated, answer.stages_ms

    async def create_embedding(self, sentences: str | list[str], **options: Any) -> dict[str, Any]:
        """What Xinference's own route calls: the answer in OpenAI's shape.

        `model_uid` names the model in the answer. `prompt`, `prompt_name`, `normalize_embeddings` and
        `truncate_prompt_tokens` mean what they mean to the engine sentence_transformers; the rest is ignored, as there.
        """
        sentences = self._fix_langchain_openai_inputs(sentences)
        texts = [sentences] if isinstance(sentences, str) else sentences
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("the engine openvino embeds texts only")
        limit = options.get("truncate_prompt_tokens")
        if limit is not None:
            texts = await self.cut(texts, limit)
        prefix = self._loaded.runtime.files.prompts.prefix(options.get("prompt"), options.get("prompt_name"))
        answer = await self._line.embed([prefix + text for text in texts])
        if options.get("normalize_embeddings", True):
            answer = replace(answer, vectors=_unit(answer.vectors))
        return self._openai(answer, str(options.get("model_uid", self._model_uid)))

    async def cut(self, texts: list[str], limit: int) -> list[str]:
        """Texts shortened to `limit` tokens; a negative one means the model's own limit, as in Xinference."""
        limit = limit if limit >= 0 else int(self.model_family.max_tokens)
        return await asyncio.get_running_loop().run_in_executor(None, self._loaded.tokenizer.cut, texts, limit)

    async def engine_status(self) -> dict[str, object]:
        """The engine's account of itself; cheap, callable at any time."""
        loaded, line = self._loaded, self._line
        files, choice = loaded.runtime.files, loaded.choice
        return {
            "engine": ENGINE,
            "precision": choice.precision,
            "rest_precision": loaded.hint,
            "precision_reason": choice.reason,
            "fidelity": {name: fidelity.to_json() for name, fidelity in choice.fidelity.items()},
            "fingerprint": loaded.fingerprint,
            "device": loaded.device,
            "threads": loaded.threads,
            "streams": loaded.runtime.streams,
            "pass_tokens": loaded.runtime.shapes.cap,
            "dimensions": files.dimensions,
            "max_tokens": files.max_tokens,
            "prompts": files.prompts.to_json(),
            "stand_in": files.stand_in,
            "pid": os.getpid(),
            "process": process.to_json() if (process := ModelProcess.own()) else None,
            "rss_bytes": resident_bytes(),
            "cpu_s": time.process_time(),
            "age_s": round(time.monotonic() - self._loaded_s, 1),
            "passes": line.tally.passes,
            "narrow_passes": line.tally.narrow,
            "filling_tokens": line.tally.filling,
            "tokens": line.tally.tokens,
            "texts": line.tally.texts,
            "infer_s": line.tally.infer_s,
            "pass_ms": {"fixed": line.cost.call_s * 1000, "per_token": line.cost.token_s * 1000},
        }

    def _create_embedding(self, sentences: Any, **options: Any) -> dict[str, Any]:
        """The synchronous form, for callers outside an event loop."""
        return asyncio.run(self.create_embedding(sentences, **options))

    def _load(self) -> Loaded:
        keys = self._kwargs
        directory = Path(self._model_path)
        cache = Path(keys.get("slo_models_dir") or MODELS_DIRECTORY)
        precision = str(keys.get("slo_precision") or "auto")
        settings: dict[str, Any] = {
            "precision": precision,
            "device": self._device or "cpu",
            "threads": keys.get("slo_threads"),
            "streams": keys.get("slo_streams") or 1,
            "pass_tokens": keys.get("slo_pass_tokens"),
        }
        try:
            return load(directory, cache, may_make=False, **settings)
        except NotMade:
            make_in_helper(directory, cache, precision)
            return load(directory, cache, may_make=False, **settings)

    def _openai(self, answer: BatchAnswer, model: str) -> dict[str, Any]:
        tokens = sum(answer.tokens)
        rows = enumerate(answer.vectors.tolist())
        return {
            "object": "list",
            "model": model,
            "model_replica": self._model_uid,
            "data": [{"index": index, "object": "embedding", "embedding": row} for index, row in rows],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }


def publish() -> None:
    """Make the engine known to this process, for models registered before and after, and the others the door's guests.

    Calling it again is harmless.

    Xinference's own hook is closed by the time extensions are loaded; its table is not.
    """
    SUPPORTED_ENGINES[ENGINE] = [OpenVinoEmbedding]
    for classes in SUPPORTED_ENGINES.values():
        classes[:] = [guest_of(each) for each in classes]
    for offers in EMBEDDING_ENGINES.values():
        for offer in (offer for several in offers.values() for offer in several):
            offer["embedding_class"] = guest_of(offer["embedding_class"])
    builtin = [
        family
        for name, families in BUILTIN_EMBEDDING_MODELS.items()
        for family in families
        if ARCHITECTURES.get(name) in OUR_ARCHITECTURES
    ]
    for family in (*builtin, *get_user_defined_embeddings()):
        try:
            generate_engine_config_by_model_name(family)
        except Exception:  # one odd registration, of whoever's making, must not keep the server from starting
            logger.warning("the model %r is passed over", family.model_name, exc_info=True)


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)
