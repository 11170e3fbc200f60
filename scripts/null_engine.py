"""
An engine that computes nothing, for measuring everything around it: `XINFERENCE_EXTENSIONS=null_engine:create`.

Needs this folder on PYTHONPATH. Each vector has length 1 and carries its text's checksum in its first four values.
`NULL_TOKEN_MS` lets a pass take 5 ms and so much per token, one pass after the other, without using the processor:
an engine of known capacity for trying out overload.
"""

from __future__ import annotations

import asyncio
import os
import time
import zlib
from typing import Any

import numpy as np
from xinference.model.embedding import SUPPORTED_ENGINES, generate_engine_config_by_model_name
from xinference.model.embedding import get_user_defined_embeddings as custom_families
from xinference.model.embedding.core import EmbeddingModel

from slo.serve.extension import Extension

DIMENSIONS = 768
SCALE = 512  # a checksum's byte as a value: four of them are shorter than 1


class NullEngine(EmbeddingModel):  # type: ignore[misc]
    """Answers at once. Small, so that it can be read at a glance."""

    allow_batch = True

    @classmethod
    def check_lib(cls) -> bool:
        return True

    @classmethod
    def match_json(cls, *_: Any) -> bool:
        return True

    def load(self) -> None:
        self._token_s = float(os.environ.get("NULL_TOKEN_MS", "0")) / 1000
        self._turn = asyncio.Lock()
        row = np.random.default_rng(1).standard_normal(DIMENSIONS - 4)
        self._rest = (row / np.linalg.norm(row)).astype("<f4")

    def _create_embedding(self, sentences: Any, **_: Any) -> Any:
        raise NotImplementedError("the null engine answers the front door only")

    async def embed_batch(self, texts: list[str]) -> tuple[bytes, list[int], list[bool], dict[str, float]]:
        rows = np.empty((len(texts), DIMENSIONS), "<f4")
        for row, text in zip(rows, texts, strict=True):
            head = np.frombuffer(zlib.crc32(text.encode()).to_bytes(4, "little"), dtype=np.uint8) / SCALE
            row[:4], row[4:] = head, self._rest * np.sqrt(1 - head @ head)
        tokens = [len(text) + 2 for text in texts]
        asked = began = time.perf_counter()
        if self._token_s:
            async with self._turn:
                began = time.perf_counter()
                await asyncio.sleep(0.005 + self._token_s * sum(tokens))
        infer_ms, wait_ms = (time.perf_counter() - began) * 1000, (began - asked) * 1000
        stages = {"tokenise": 0.0, "infer": infer_ms, "finish": 0.0, "wait": wait_ms}
        return rows.tobytes(), tokens, [False] * len(texts), stages

    async def engine_status(self) -> dict[str, Any]:
        return {
            "engine": "null",
            "dimensions": DIMENSIONS,
            "max_tokens": 512,
            "fingerprint": "null",
            "pid": os.getpid(),
        }


def create() -> Extension:
    """The project's own extension, with this engine besides."""
    SUPPORTED_ENGINES["null"] = [NullEngine]
    for family in custom_families():
        generate_engine_config_by_model_name(family)
    return Extension()
