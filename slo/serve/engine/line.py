"""
One inference at a time, beside the event loop.

Texts are made ready on the loop (a tenth of a millisecond each) while the line's own thread infers the batch before
them, which saves the hand-over to a thread of their own. Each pass is handed over by
itself, so that a call of a thousand texts lets others in between.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

from slo.serve.door.cost import PassCost
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.packing import Pass
from slo.serve.engine.runtime import Batch, Runtime
from slo.serve.engine.tokens import INLINE_CHARACTERS
from slo.serve.model_process import Leaving

DRAIN_S = 20.0  # for the calls that are under way when the model is stopped


@dataclass(frozen=True)
class Answer:
    """Vectors [texts, dimensions]; per text its tokens and the characters that were not read; ms by stage."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[int]
    stages_ms: dict[str, float]


@dataclass
class Tally:
    """What was done since the start."""

    passes: int = 0
    tokens: int = 0
    texts: int = 0
    infer_s: float = 0.0


class Line:
    """Calls of `embed` queue up for one runtime. What a runtime raises reaches the caller whose batch it was."""

    def __init__(self, runtime: Runtime, *, now_s: Callable[[], float] = perf_counter) -> None:
        self.runtime = runtime
        self.tally = Tally()
        self.cost = PassCost()
        self._now_s = now_s
        self._idle = threading.Condition()
        self._calls = 0  # under way
        self._leaving = False
        self._inferring = ThreadPoolExecutor(1, thread_name_prefix="infer")
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    async def embed(self, texts: Sequence[str]) -> Answer:
        """Embed texts in order. A cancelled call drops its passes that have not begun; others notice nothing.

        Raises `Leaving` once the line is being closed, and whatever the runtime raises.
        """
        with self._idle:
            if self._leaving:
                raise Leaving("the model is being stopped")
            self._calls += 1
        try:
            return await self._embed(texts)
        finally:
            with self._idle:
                self._calls -= 1
                self._idle.notify_all()

    async def _embed(self, texts: Sequence[str]) -> Answer:
        loop = asyncio.get_running_loop()
        begun = self._now_s()
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            batch = self.runtime.prepare(texts)
        else:
            batch = await loop.run_in_executor(self._preparing, self.runtime.prepare, texts)
        ready = self._now_s()
        results: list[Vectors] = []
        inferring_s = 0.0
        for packed in batch.passes:
            vectors, took_s = await loop.run_in_executor(self._inferring, self._infer, packed)
            results.append(vectors)
            inferring_s += took_s
        answered = self._now_s()
        vectors = self.runtime.finish(batch, results)
        stages_s = {
            "tokenise": ready - begun,
            "infer": inferring_s,
            "finish": self._now_s() - answered,
            "wait": max(0.0, answered - ready - inferring_s),
        }
        return self._answer(batch, vectors, stages_s)

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Take no more, finish what is there within `drain_s`, end both threads. Not on the loop that waits for it."""
        with self._idle:
            self._leaving = True
            self._idle.wait_for(lambda: self._calls == 0, timeout=drain_s)
        self._preparing.shutdown(wait=True, cancel_futures=True)
        self._inferring.shutdown(wait=True, cancel_futures=True)

    def _infer(self, packed: Pass) -> tuple[Vectors, float]:
        begun = self._now_s()
        vectors = self.runtime.infer(packed)
        took_s = self._now_s() - begun
        self.tally.passes += 1
        self.tally.tokens += packed.tokens
        self.tally.texts += len(packed.texts)
        self.tally.infer_s += took_s
        self.cost.observe(packed.tokens, took_s, took_s, 0.0)
        return vectors, took_s

    def _answer(self, batch: Batch, vectors: Vectors, stages_s: dict[str, float]) -> Answer:
        stages_ms = {stage: seconds * 1000 for stage, seconds in stages_s.items()}
        return Answer(vectors, batch.tokens.counts, batch.tokens.truncated, stages_ms)
