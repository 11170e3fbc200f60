"""`slo load`, `slo stress` and the search of `slo capacity` in virtual time, against a service made of a formula."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from slo.bench.conditions import Stopper
from slo.bench.exchange import OK, Exchange
from slo.bench.session import Session
from slo.bench.wire import target
from slo.bench.workload import Workload
from slo.objective import Objective
from tests.bench.virtual import WALL_S, VirtualClock, run_virtual
from tests.stub_server import embeddings

T = TypeVar("T")


class LoopClock:
    """The time of whatever virtual loop is running; time stands still between two."""

    def __init__(self) -> None:
        self.last_s = 1000.0

    def monotonic(self) -> float:
        try:
            self.last_s = asyncio.get_running_loop().time()
        except RuntimeError:
            return self.last_s
        return self.last_s

    def wall(self) -> float:
        return WALL_S + self.monotonic()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the service behaves: one line of requests, so that late ones come in clusters."""

    service_ms: float = 10.0
    failing: float = 0.0
    cached: float = 0.0
    wrong: float = 0.0
    seed: int = 1
    stall_s: float = 0.0  # of every ten seconds the last so many


class FormulaPool:
    """What `slo.bench.wire.Pool` is to a load, answering by a `Shape` instead of over a network."""

    shape = Shape()

    def __init__(self, _target: Any, *, limit: int, clock: Any) -> None:
        self.on_done: Callable[[Exchange], None] = lambda _exchange: None
        self.peak_connections, self.last_error = limit, ""
        self._clock, self._free_s = clock, 0.0
        self._source = random.Random(self.shape.seed)

    def submit(self, exchange: Exchange) -> None:
        shape, now_s = self.shape, self._clock.monotonic()
        exchange.sent_s = now_s + 1.23456e-5
        taken_s = self._source.expovariate(1000 / shape.service_ms)
        starts_s = max(self._free_s, exchange.sent_s)
        if (phase_s := starts_s % 10.0) > 10.0 - shape.stall_s:
            starts_s += 10.0 - phase_s
        self._free_s = starts_s + taken_s
        asyncio.get_running_loop().call_at(self._free_s, self._end, exchange, self._source.random())

    async def close(self) -> None:
        """Nothing is open."""

    def _end(self, exchange: Exchange, luck: float) -> None:
        shape = self.shape
        exchange.done_s, exchange.status, exchange.outcome = self._clock.monotonic(), 200, OK
        texts = json.loads(exchange.body)["input"]
        texts = [texts] if isinstance(texts, str) else texts
        if luck < shape.failing:
            exchange.status, exchange.outcome = 503, "server_fault"
        elif luck < shape.failing + shape.cached:
            exchange.cached = True
        elif luck < shape.failing + shape.cached + shape.wrong:
            texts = [text + "?" for text in texts]
        exchange.answer = json.dumps(embeddings(texts, 8), separators=(",", ":")).encode()
        self.on_done(exchange)


def run_here(main: Callable[[Stopper], Awaitable[T]], stopper: Stopper | None = None) -> T:
    """What `slo.bench.conditions.run_load` does, in virtual time."""

    async def wrapped(_clock: VirtualClock) -> T:
        return await main(stopper or Stopper())

    return run_virtual(wrapped)


def in_virtual_time(patch: pytest.MonkeyPatch, shape: Shape) -> None:
    """From now on loads are virtual and meet a service of this shape."""
    patch.setattr("slo.bench.session.Pool", FormulaPool)
    patch.setattr(FormulaPool, "shape", shape)
    for module in ("load", "probes", "soak"):
        patch.setattr(f"slo.bench.{module}.run_load", run_here)


def virtual_session(*, objective: Objective | None = None, seed: int = 7, connections: int = 64) -> Session:
    """A session whose clock is that of the virtual loop."""
    return Session(
        target=target("http://127.0.0.1:1", "virtual", timeout_s=5.0),
        workload=Workload(seed=seed), objective=objective or Objective(), seed=seed, connections=connections,
        check_every=5, clock=LoopClock(), settings={"command": "slo load"},
    )  # fmt: skip
