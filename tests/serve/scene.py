"""
Any situation on the air: our pages and the live page's real endpoints, over a past that the test makes up.

The clock is a manual one; `play` lets minutes of traffic pass in milliseconds. Only the model is invented: texts
that share characters get vectors that lie close.
"""

from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slo.clock import ManualClock
from slo.serve.door.cache import Cache
from slo.serve.telemetry.telemetry import PassTiming, Telemetry
from slo.serve.web.board import Board, Endpoint
from slo.serve.web.pages import page_routes
from slo.serve.web.processes import Processes
from slo.serve.web.reports import window_report
from slo.serve.web.timeline import STEP_S
from slo.settings_serve import ServeSection

Result = TypeVar("Result")
MODEL = "gte-base-zh"
SPREAD = 0.30  # of the logarithm of latencies
NINETY_FIFTH = math.exp(1.645 * SPREAD)


class Scene:
    """One model with two replicas, its past, and its mood: `key` asks for authentication, `answer` fails calls."""

    def __init__(self, state_dir: Path, *, stand_in: bool = True, wall_s: float = 1_790_000_000.0) -> None:
        self.clock = ManualClock(monotonic_s=1000.0, wall_s=wall_s)
        self.telemetry = Telemetry(self.clock.monotonic)
        self.lane = _lane(stand_in)
        self.key = ""
        self.answer = 200
        self.embedded: list[str] = []
        self.asked: list[str] = []
        self.board = Board(
            ServeSection(), SimpleNamespace(lanes=[self.lane]), Cache(2**20), self.telemetry,  # type: ignore[arg-type]
            Processes(lambda: [self.lane]), {"SLO_STATE_DIR": str(state_dir)}, self.clock.wall,
        )  # fmt: skip
        self._source = random.Random(7)

    def play(self, seconds: int, *, p95_ms: float, rate: float = 12.0, failing: float = 0.0) -> None:
        """Let `seconds` of traffic pass, its latencies log-normal around a given P95."""
        median_s = p95_ms / 1000 / NINETY_FIFTH
        for second in range(seconds):
            swell = 1 + 0.35 * math.sin(second / 240)
            for _ in range(round(rate * swell)):
                latency_s = median_s * math.exp(self._source.gauss(0, SPREAD))
                code = "5xx" if self._source.random() < failing else "2xx"
                self.telemetry.request(MODEL, "medium", code, cached=False, seconds=latency_s)
            if second % 5 == 0:
                self._pass(median_s * 1000)
            self.clock.advance(1.0)
            if self.clock.wall() % STEP_S == 0:
                self.telemetry.in_flight = self._source.randint(1, 7)
                self.board.timeline.take(self.clock.wall())
                self.board.changes.look([self.lane], self.clock.wall())

    def _pass(self, median_ms: float) -> None:
        stages = {"tokenise": 0.9, "wait": 1.6, "infer": median_ms * 0.55, "finish": 0.3}
        total_s = sum(stages.values()) / 1000 + 0.0019
        timing = PassTiming(dispatched_s=self.clock.monotonic() - total_s, wall_s=total_s, stages_ms=stages)
        self.telemetry.passed(4, 96, timing)
        self.telemetry.stage("queue", median_ms * 0.25 / 1000)
        self.telemetry.stage("serialise", 0.00012)
        self.telemetry.count("cache", "hit", amount=2)
        self.telemetry.count("cache", "miss", amount=14)

    def window(self) -> dict[str, Any]:
        """What `/slo/api/window` would say now."""
        return window_report(self.telemetry, 300, 0.150)

    def app(self) -> Starlette:
        """Pages, data routes and embeddings, as the front door has them."""
        routes = [*page_routes(), Route("/v1/embeddings", self._embeddings, methods=["POST"])]
        routes.append(Route("/v1/cluster/auth", self._says_whether_a_key_is_needed))
        for path, endpoint, _ in self.board.table():
            routes.append(Route(path, self._guarded(endpoint)))
        return Starlette(routes=routes)

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def guarded(request: Request) -> Response:
            self.asked.append(request.url.path)
            return self._refusal(request) or await endpoint(request)

        return guarded

    async def _says_whether_a_key_is_needed(self, _: Request) -> Response:
        return JSONResponse({"auth": bool(self.key)})

    def _refusal(self, request: Request) -> Response | None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"detail": "Could not validate credentials"}, 401)
        return None

    async def _embeddings(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        texts: list[str] = (await request.json())["input"]
        self.embedded += texts
        if self.answer != 200:
            headers = {"Retry-After": "2"} if self.answer == 429 else {}
            return JSONResponse({"error": {"message": "the queue is full"}}, self.answer, headers)
        rows = [{"index": i, "object": "embedding", "embedding": vector_of(text)} for i, text in enumerate(texts)]
        tokens = sum(len(text) + 2 for text in texts)
        return JSONResponse({"data": rows, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def _lane(stand_in: bool) -> Any:
    def replica(number: int) -> Any:
        status = {"engine": "openvino", "precision": "int8", "stand_in": stand_in, "cpu_s": 7.0, "rss_bytes": 410 << 20}
        load = SimpleNamespace(passes_s=[], tokens=160 * number)
        return SimpleNamespace(identity=(f"{MODEL}-{number}", "127.0.0.1:4000"), status=status, load=load)

    return SimpleNamespace(
        model=MODEL, generation=1, states={}, replicas=[replica(0), replica(1)], capacity_tokens_per_s=lambda: 1890.0,
        planner=SimpleNamespace(online_tokens=214, deferred_tokens=0, batch_tokens=0, pass_tokens=160),
        cost=SimpleNamespace(call_s=0.004, token_s=0.0003, overhead_s=0.001, passes=900),
    )  # fmt: skip


def vector_of(text: str) -> list[float]:
    """The vector that the invented model gives to `text`."""
    values = [0.15] * 64
    for character in text:
        values[ord(character) * 7 % 64] += 1.0
    return values


class Site:
    """A scene on a port of its own, in a thread; it can be stopped and started again."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve until `stop`, on the port of before."""
        ready = threading.Event()
        config = uvicorn.Config(
            self.scene.app(), host="127.0.0.1", port=self.port, log_level="critical", ws="none", lifespan="off"
        )
        server = self._server = uvicorn.Server(config)

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            serving = asyncio.ensure_future(server.serve())
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            ready.set()
            await serving

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self._thread.start()
        assert ready.wait(20)
        self.port = server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """End it and close its connections."""
        assert self._server is not None
        assert self._thread is not None
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)

    def call(self, work: Callable[[], Result]) -> Result:
        """Do `work` on the server's event loop, where the telemetry is written and read."""
        assert self._loop is not None

        async def do() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(do(), self._loop).result(30)


@contextmanager
def serving(scene: Scene) -> Iterator[Site]:
    """The scene on the air."""
    site = Site(scene)
    site.start()
    try:
        yield site
    finally:
        site.stop()
