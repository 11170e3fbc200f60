"""An event loop whose time passes only while it waits: minutes of traffic in a second, the same every time."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from slo.config import ServeSection
from slo.serve.door.batcher import Embedded
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.front import Call, Front
from slo.serve.door.planner import Load
from slo.serve.telemetry.telemetry import Telemetry
from tests.serve.fakes import FakeFinder


class _Selector(selectors.SelectSelector):
    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for nothing"
        self.now_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now_s


def run_virtual(main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` on a loop of its own."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@dataclass
class SlowReplica:
    """An engine that computes one pass after the other: 5 ms + 0.26 ms per token, a noise, 2 ms for the call."""

    seed: int = 0
    noise: float = 0.15
    slowness: float = 1.0
    identity: tuple[str, str] = ("rep0", "127.0.0.1:1")
    status: dict[str, Any] = field(default_factory=lambda: {"fingerprint": "w", "max_tokens": 512})
    load: Load = field(default_factory=Load)
    computed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng, self._lock = random.Random(self.seed), asyncio.Lock()

    async def embed(self, texts: list[str]) -> Embedded:
        loop = asyncio.get_running_loop()
        tokens = [min(512, len(text) + 2) for text in texts]
        await asyncio.sleep(0.001)
        asked_s = loop.time()
        async with self._lock:
            began_s = loop.time()
            took_s = (0.005 + 0.00026 * sum(tokens)) * self._rng.uniform(1 - self.noise, 1 + self.noise) * self.slowness
            await asyncio.sleep(took_s)
        await asyncio.sleep(0.001)
        self.computed += texts
        stages = {"tokenise": 0.1, "infer": took_s * 1000, "finish": 0.0, "wait": (began_s - asked_s) * 1000}
        return np.ones((len(texts), 4), "<f4").tobytes(), tokens, [False] * len(texts), stages

    async def refresh_status(self) -> None:
        return None


@dataclass(frozen=True)
class Outcome:
    """One request of a run: when it was due, what it got, after how long, and how many characters it carried."""

    due_s: float
    status: int
    took_s: float
    characters: int = 0


class Service:
    """A front door on virtual time."""

    def __init__(self, replicas: list[SlowReplica], settings: ServeSection) -> None:
        self.telemetry = Telemetry(asyncio.get_running_loop().time)
        cache = Cache(0)
        finder = FakeFinder(m=replicas)  # type: ignore[arg-type]
        self.front = Front(settings, Directory(finder, settings, cache, self.telemetry), cache, self.telemetry)
        self._count = 0

    async def embed(self, *lengths: int) -> Outcome:
        """One request of unique texts of these lengths."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        texts = []
        for length in lengths:
            self._count += 1
            texts.append(
                str(self._count).rjust(length, "字")[:length] if length > 6 else chr(0x4E00 + self._count) * length
            )
        body = orjson.dumps({"model": "m", "input": texts})
        answer = await self.front.answer(Call(body, due_s))
        assert answer is not None
        self.front.finish(*answer)
        return Outcome(due_s, answer[0].status, loop.time() - due_s, sum(lengths))

    async def offer(self, rate: float, seconds: float, seed: int = 1) -> list[Outcome]:
        """Poisson arrivals of short, medium and long texts, a third each; all outcomes."""
        rng, loop = random.Random(seed), asyncio.get_running_loop()
        end_s, tasks = loop.time() + seconds, []
        while loop.time() < end_s:
            tasks.append(asyncio.ensure_future(self.embed(rng.choice([4, 20, 50]))))
            await asyncio.sleep(rng.expovariate(rate))
        return list(await asyncio.gather(*tasks))
