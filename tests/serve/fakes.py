"""An engine whose vectors say which text they belong to, and a finder that knows the models of a test."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from slo.serve.door.batcher import Embedded, ReplicaLost
from slo.serve.door.cache import Vector
from slo.serve.door.passes import ReplicaLoad
from slo.serve.door.problem import Problem

DIMENSIONS = 8
Behaviour = Callable[[int, list[str]], "float | Exception"]


def vector_of(text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Eight values from the checksum of the text, of length 1."""
    seed = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    values = np.random.default_rng(seed).standard_normal(DIMENSIONS)
    return np.asarray(values / np.linalg.norm(values), dtype="<f4")


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class FakeReplica:
    """Answers as the engine does. `behave(call number, texts)` gives seconds to take, or an error to raise."""

    def __init__(self, uid: str = "rep0", port: int = 1, behave: Behaviour = lambda *_: 0.0, **status: Any) -> None:
        self.load = ReplicaLoad()
        self.identity = (uid, f"127.0.0.1:{port}")
        self.status: dict[str, Any] = {"fingerprint": "w1", "dimensions": DIMENSIONS, "max_tokens": 512, **status}
        self.calls: list[list[str]] = []
        self.lost = False
        self.out: list[asyncio.Future[None]] = []  # calls under way
        self.ended = False
        self._behave = behave

    async def embed(self, texts: list[str]) -> Embedded:
        self.calls.append(texts)
        step = self._behave(len(self.calls) - 1, texts)
        if isinstance(step, Exception):
            raise step
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        self.out.append(over)
        timer = loop.call_later(step, _settle, over)
        try:
            await over
        finally:
            timer.cancel()
            self.out.remove(over)
        packed = np.stack([vector_of(text) for text in texts]).tobytes()
        stages = {"tokenise": 0.1, "infer": step * 1000, "finish": 0.1, "wait": 0.0}
        return packed, [min(512, len(t) + 2) for t in texts], [max(0, len(t) + 2 - 512) for t in texts], stages

    async def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        if self.lost:
            raise ReplicaLost("gone")
        return [text[:limit] for text in texts]

    async def refresh_status(self) -> None:
        return None

    def give_up(self, reason: str) -> None:
        for future in self.out:
            if not future.done():
                future.set_exception(ReplicaLost(reason))

    async def end_by_worker(self) -> None:
        self.ended = True


class FakeFinder:
    """`found` by model: replicas, an empty list for another engine's model, or the error to raise."""

    def __init__(self, **found: list[FakeReplica] | Problem | Exception) -> None:
        self.found = found
        self.words: dict[str, dict[str, str]] = {}  # what is said of replicas that do not serve, by model and uid
        self.quiet: dict[str, list[FakeReplica]] = {}
        self.asked: list[str] = []

    async def find(self, model: str) -> list[FakeReplica]:
        self.asked.append(model)
        await asyncio.sleep(0)
        answer = self.found.get(model, Problem(404, "no such model", reason="model_not_found"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def silent(self, model: str) -> list[FakeReplica]:
        return self.quiet.get(model, [])

    def states(self, model: str) -> dict[str, str]:
        answer = self.found.get(model)
        if model in self.words:
            return self.words[model]
        return {replica.identity[0]: "READY" for replica in answer} if isinstance(answer, list) else {}

    async def models(self) -> list[str]:
        return [name for name, answer in self.found.items() if isinstance(answer, list)]


def packed(text: str, tokens: int = 3) -> Vector:
    """The vector that the fake engine gives."""
    return Vector(vector_of(text).tobytes(), tokens, False)


@asynccontextmanager
async def counted_turns() -> AsyncIterator[list[int]]:
    """How often others on the loop have had their turn meanwhile: a list of one number."""
    turns = [0]

    async def others() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    try:
        yield turns
    finally:
        task.cancel()
