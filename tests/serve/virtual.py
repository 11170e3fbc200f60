"""An event loop whose time passes only while it waits: minutes of traffic in a second, the same every time."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from slo.serve.door.batcher import Embedded
from slo.serve.door.cache import Cache
from slo.serve.door.call import Call
from slo.serve.door.directory import Directory
from slo.serve.door.front import Front
from slo.serve.door.passes import ReplicaLoad
from slo.serve.telemetry.telemetry import Telemetry
from slo.settings_serve import ServeSection
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
    load: ReplicaLoad = field(default_factory=ReplicaLoad)
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

    def give_up(self, reason: str) -> None:
        raise AssertionError(f"a healthy replica was given up: {reason}")

    async def end_by_worker(self) -> None:
        raise AssertionError("a healthy replica was ended")


@dataclass(frozen=True)
class Outcome:
    """One request of a run: when it was due, what it got, after how long, and how many characters it carried."""

    due_s: float
    status: int
    took_s: float
    characters: int = 0
    retry_ms: float = 0.0


class Service:
    """A front door on virtual time."""

    def __init__(self, replicas: list[SlowReplica], settings: ServeSection) -> None:
        self.telemetry = Telemetry(asyncio.get_running_loop().time)
        cache = Cache(0)
        finder = FakeFinder(m=replicas)  # type: ignore[arg-type]
        self.front = Front(settings, Directory(finder, settings, cache, self.telemetry), cache, self.telemetry)
        self._count = 0

    async def embed(self, *lengths: int, deadline_ms: float | None = None, class_: str | None = None) -> Outcome:
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
        said = None if deadline_ms is None else str(deadline_ms)
        reply, trace = await self.front.answer(Call(body, due_s, said, class_))
        assert reply is not None
        self.front.finish(reply, trace)
        retry_ms = float(reply.headers.get("retry-after-ms", 0))
        return Outcome(due_s, reply.status, loop.time() - due_s, sum(lengths), retry_ms)

    async def persist(self, *lengths: int, retries: int = 2) -> Outcome:
        """What openai-python does: it asks twice more, when the server says so, else after 0.5 s doubled."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        for left in range(retries, -1, -1):
            outcome = await self.embed(*lengths)
            if outcome.status == 200 or not left:
                break
            advised_s = outcome.retry_ms / 1000
            await asyncio.sleep(advised_s if 0 < advised_s <= 60 else 0.5 * 2 ** (retries - left))
        return Outcome(due_s, outcome.status, loop.time() - due_s, outcome.characters)

    async def burst(self, threads: int, each: int, length: int = 40) -> list[Outcome]:
        """As many threads as that, each with so many requests in turn, 3 ms apart at first."""

        async def thread(number: int) -> list[Outcome]:
            await asyncio.sleep(0.003 * number)
            return [await self.persist(length) for _ in range(each)]

        return [one for part in await asyncio.gather(*map(thread, range(threads))) for one in part]

    async def crowd(self, clients: int, seconds: float, length: int = 40) -> list[Outcome]:
        """A closed loop: every client asks again when it has its answer, 20 ms after a refusal."""
        loop = asyncio.get_running_loop()
        end_s, outcomes = loop.time() + seconds, list[Outcome]()

        async def client() -> None:
            while loop.time() < end_s:
                outcome = await self.embed(length)
                outcomes.append(outcome)
                if outcome.status != 200:
                    await asyncio.sleep(0.02)

        await asyncio.gather(*(client() for _ in range(clients)))
        return outcomes

    async def offer(
        self, rate: float, seconds: float, seed: int = 1, lengths: Sequence[int] = (4, 20, 50)
    ) -> list[Outcome]:
        """Poisson arrivals of short, medium and long texts, a third each; all outcomes."""
        rng, loop = random.Random(seed), asyncio.get_running_loop()
        end_s, tasks = loop.time() + seconds, []
        while loop.time() < end_s:
            tasks.append(asyncio.ensure_future(self.embed(rng.choice(lengths))))
            await asyncio.sleep(rng.expovariate(rate))
        return list(await asyncio.gather(*tasks))
