"""
Calls in line for the engine's streams, beside the event loop.

Texts are made ready on the loop (a tenth of a millisecond each) while the streams' threads infer the batch before
them, which saves the hand-over to a thread of their own. A call has as many passes handed over at a time as can run at
a time, so that one of a thousand texts lets others in between.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from slo.serve.engine.cost import PassCost
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.model_process import Leaving
from slo.serve.engine.packing import Pass
from slo.serve.engine.runtime import Batch, Runtime
from slo.serve.engine.streams import Streams, after_narrow, after_wide, narrow_is_sooner
from slo.serve.engine.tokens import INLINE_CHARACTERS, Tokens

DRAIN_S = 20.0  # for the calls that are under way when the model is stopped


@dataclass(frozen=True)
class BatchAnswer:
    """Vectors [texts, dimensions]; per text its tokens and the characters that were not read; ms by stage."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[int]
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class Inferred:
    """Vectors of one pass, and when it began and ended."""

    vectors: Vectors
    begun_s: float
    ended_s: float


@dataclass
class StageTally:
    """What was done since the start."""

    passes: int = 0
    narrow: int = 0  # passes on one stream
    tokens: int = 0
    filling: int = 0  # tokens that only fill the shape of a pass
    texts: int = 0
    infer_s: float = 0.0  # of all threads: a pass on one of two streams counts half


class Line:
    """Calls of `embed` queue up for one runtime. What a runtime raises reaches the caller whose batch it was."""

    def __init__(self, runtime: Runtime, *, now_s: Callable[[], float] = perf_counter) -> None:
        self.runtime = runtime
        self.tally = StageTally()
        self.cost, self.narrow_cost = PassCost(), PassCost()
        for timed in runtime.timed:
            self._cost(timed.narrow).observe(timed.tokens, timed.seconds, timed.seconds, 0.0)
        self._now_s = now_s
        self._idle = threading.Condition()
        self._tallying = threading.Lock()
        self._calls = 0  # under way
        self._leaving = False
        self._streams = Streams(runtime.streams)
        self._free_s = [0.0] * runtime.streams  # when each stream is predicted to be free
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    async def embed(self, texts: Sequence[str]) -> BatchAnswer:
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

    async def _embed(self, texts: Sequence[str]) -> BatchAnswer:
        loop = asyncio.get_running_loop()
        begun = self._now_s()
        if sum(map(len, texts)) <= INLINE_CHARACTERS:
            tokens = self.runtime.tokenise(texts)
        else:
            tokens = await loop.run_in_executor(self._preparing, self.runtime.tokenise, texts)
        batch = self._batch(tokens)
        ready = self._now_s()
        results = await self._inferred(batch)
        answered = self._now_s()
        vectors = self.runtime.finish(batch, [result.vectors for result in results])
        inferring_s = _covered_s(results)
        stages_s = {
            "tokenise": ready - begun,
            "infer": inferring_s,
            "finish": self._now_s() - answered,
            "wait": max(0.0, answered - ready - inferring_s),
        }
        return self._answer(batch, vectors, stages_s)

    def _batch(self, tokens: Tokens) -> Batch:
        """Packed for the way that is predicted to end sooner; the streams are busy with it from now on."""
        now_s = self._now_s()
        free_s = [now_s if self._streams.idle else max(now_s, free_s) for free_s in self._free_s]
        wide = self.runtime.plan(tokens, narrow=False)
        wide_s = self._predicted_s(tokens, wide, narrow=False)
        if self.runtime.streams > 1:
            plan = self.runtime.plan(tokens, narrow=True)
            narrow_s = self._predicted_s(tokens, plan, narrow=True)
            if narrow_is_sooner(free_s, wide_s, narrow_s):
                self._free_s = after_narrow(free_s, narrow_s)
                return self.runtime.batch(tokens, plan, narrow=True)
        self._free_s = after_wide(free_s, wide_s)
        return self.runtime.batch(tokens, wide, narrow=False)

    def _predicted_s(self, tokens: Tokens, plan: Sequence[Sequence[int]], *, narrow: bool) -> list[float]:
        cost = self._cost(narrow)
        return [cost.of(sum([len(tokens.ids[index]) for index in members])) for members in plan]

    def _cost(self, narrow: bool) -> PassCost:
        return self.narrow_cost if narrow else self.cost

    async def _inferred(self, batch: Batch) -> list[Inferred]:
        """Results by pass."""
        results: dict[int, Inferred] = {}
        waiting = iter(range(len(batch.passes)))

        async def run() -> None:
            for index in waiting:
                act = partial(self._infer, batch.passes[index], batch.narrow)
                results[index] = await asyncio.wrap_future(self._streams.submit(act, narrow=batch.narrow))

        if not batch.narrow or len(batch.passes) == 1:
            await run()
        else:
            runs = [asyncio.ensure_future(run()) for _ in range(min(self.runtime.streams, len(batch.passes)))]
            try:
                await asyncio.gather(*runs)
            finally:
                for each in runs:
                    each.cancel()
        return [results[index] for index in range(len(batch.passes))]

    def close(self, drain_s: float = DRAIN_S) -> None:
        """Take no more, finish what is there within `drain_s`, end both threads. Not on the loop that waits for it."""
        with self._idle:
            self._leaving = True
            self._idle.wait_for(lambda: self._calls == 0, timeout=drain_s)
        self._preparing.shutdown(wait=True, cancel_futures=True)
        self._streams.close()

    def _infer(self, packed: Pass, narrow: bool, stream: int) -> Inferred:
        begun_s = self._now_s()
        vectors = self.runtime.infer(packed, stream if narrow else None)
        ended_s = self._now_s()
        took_s = ended_s - begun_s
        with self._tallying:
            self.tally.passes += 1
            self.tally.narrow += narrow
            self.tally.tokens += packed.tokens
            self.tally.filling += packed.ids.size - packed.tokens
            self.tally.texts += len(packed.texts)
            self.tally.infer_s += took_s / (self.runtime.streams if narrow else 1)
            self._cost(narrow).observe(packed.tokens, took_s, took_s, 0.0)
        return Inferred(vectors, begun_s, ended_s)

    def _answer(self, batch: Batch, vectors: Vectors, stages_s: dict[str, float]) -> BatchAnswer:
        stages_ms = {stage: seconds * 1000 for stage, seconds in stages_s.items()}
        return BatchAnswer(vectors, batch.tokens.counts, batch.tokens.truncated, stages_ms)


def _covered_s(results: Sequence[Inferred]) -> float:
    """Seconds in which at least one of the passes ran."""
    covered_s, until_s = 0.0, -1e9
    for result in sorted(results, key=lambda each: each.begun_s):
        covered_s += max(0.0, result.ended_s - max(result.begun_s, until_s))
        until_s = max(until_s, result.ended_s)
    return covered_s
