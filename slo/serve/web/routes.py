"""
The routes under `/slo/`. `data` routes are behind Xinference's authentication as its own are; the two probes and the
metrics are open, as Xinference's `/status` and `/metrics` are: they hold counts and model names, and no text.

`ReadinessCheck`: is the service able to do its work now? A real embedding says so, at most once a second. It goes the
way of every request, except for the cache and admission: a full queue is no reason to be unready, and a cached vector
would prove nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.environment import ServeSettings
from slo.serve.door.lane import Lane
from slo.serve.door.problem import Problem, invalid, require_plain, too_large
from slo.serve.door.responses import as_response, json_reply, problem_reply
from slo.serve.telemetry.arrivals import CONTENT_TYPE as TRACE_TYPE
from slo.serve.telemetry.arrivals import LONGEST_S as ARRIVALS_S
from slo.serve.telemetry.arrivals import trace_text
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import SECONDS
from slo.serve.web.control import Control, require_this_machine
from slo.serve.web.exposition import CONTENT_TYPE, Exposition, watch_metrics
from slo.serve.web.processes import Processes
from slo.serve.web.reports import status_report, window_report

KEEP_S = 1.0
TIMEOUT_S = 5.0
TEXT = "就绪探测 readiness"
Endpoint = Callable[[Request], Awaitable[Response]]
PULSE_S = 0.25
MAX_ORDER = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Readiness:
    """`reason` is None when ready."""

    reason: str | None
    models: dict[str, float]  # milliseconds of the probe, per model

    @property
    def ready(self) -> bool:
        return self.reason is None


class ReadinessCheck:
    """Asks all models that are served; the answer is kept for `KEEP_S`, and asked for once at a time."""

    def __init__(self, directory: Directory, telemetry: Telemetry) -> None:
        self._directory = directory
        self._telemetry = telemetry
        self._last = Readiness("not asked yet", {})
        self._asked_s = -math.inf
        self._lock = asyncio.Lock()

    async def __call__(self) -> Readiness:
        """The answer, new or at most a second old."""
        async with self._lock:
            if self._telemetry.now() - self._asked_s > KEEP_S:
                self._last = await self._ask()
                self._asked_s = self._telemetry.now()
            return self._last

    async def _ask(self) -> Readiness:
        await self._directory.discover()
        lanes = self._directory.lanes
        if not lanes:
            return Readiness("no model is served by this engine", {})
        took_ms: dict[str, float] = {}
        for lane in lanes:
            started_s = self._telemetry.now()
            reason = await _probe(lane)
            if reason is not None:
                return Readiness(f"{lane.model}: {reason}", took_ms)
            took_ms[lane.model] = round((self._telemetry.now() - started_s) * 1000, 2)
        return Readiness(None, took_ms)


async def _probe(lane: Lane) -> str | None:
    """What is wrong with one model; None if nothing."""
    text = f"{TEXT} {time.time_ns()}"  # never in the cache, never in flight
    try:
        ticket = lane.batcher.submit([text], [lane.estimate.of(text)], online=True)
    except Problem as problem:
        return problem.message
    done, _ = await asyncio.wait([ticket.future], timeout=TIMEOUT_S)
    if not done:
        lane.batcher.leave(ticket)
        return f"no embedding within {TIMEOUT_S:g} s"
    error = ticket.future.exception()
    if error is not None:
        return str(error)
    vector = ticket.jobs[0].vector
    if vector is None or not np.any(np.frombuffer(vector.packed, dtype="<f4")):
        return "the vector is empty"
    return None


class Routes:
    """Endpoints over what the front door has recorded, and the pulse that measures the event loop's own delay."""

    def __init__(
        self, settings: ServeSettings, directory: Directory, cache: Cache, telemetry: Telemetry, control: Control,
        processes: Processes, state_dir: Path = Path(".slo"),
    ) -> None:  # fmt: skip
        """`state_dir` is where a watch on this machine leaves its figures."""
        self._settings = settings
        self._directory = directory
        self._cache = cache
        self._telemetry = telemetry
        self._control = control
        self._processes = processes
        self._exposition = Exposition(directory, cache, telemetry, processes)
        self._state_dir = state_dir
        self._readiness = ReadinessCheck(directory, telemetry)
        self._pulse: asyncio.Task[None] | None = None

    def table(self) -> Iterator[tuple[str, Endpoint, bool]]:
        """Path, endpoint, and whether it is a data route."""
        yield "/slo/livez", self.livez, False
        yield "/slo/readyz", self.readyz, False
        yield "/slo/metrics", self.metrics, False
        yield "/slo/api/window", self.window, True
        yield "/slo/api/status", self.status, True
        yield "/slo/api/arrivals", self.arrivals, True

    async def livez(self, _: Request) -> Response:
        """200 as long as the event loop turns."""
        uptime_s = round(self._telemetry.now() - self._telemetry.started_s, 1)
        return as_response(json_reply({"status": "alive", "uptime_s": uptime_s}))

    async def readyz(self, _: Request) -> Response:
        """200 when a real embedding came back, else 503 with the reason."""
        state = await self._readiness()
        body = {"status": "ready" if state.ready else "unready", "reason": state.reason, "probe_ms": state.models}
        return as_response(json_reply(body, 200 if state.ready else 503, {} if state.ready else {"retry-after": "1"}))

    async def metrics(self, _: Request) -> Response:
        """Prometheus text, that of the watch beside us included."""
        await self._processes.look()
        watch = await asyncio.to_thread(watch_metrics, self._state_dir)
        return Response(self._exposition.text() + watch, media_type=CONTENT_TYPE)

    async def window(self, request: Request) -> Response:
        """`?seconds=300&threshold_ms=150`, by default the objective's; `&model=`: of that alone. See `reports`."""
        try:
            seconds = _number(request, "seconds", 300)
            threshold_s = _number(request, "threshold_ms", self._settings.thresholds_ms[0]) / 1000
            if seconds != int(seconds) or not 1 <= seconds <= SECONDS:
                raise invalid(f"'seconds' must be a whole number from 1 to {SECONDS}", param="seconds")
            edges_s = self._telemetry.edges.coarse_s
            edge_s = next((edge for edge in edges_s if abs(edge - threshold_s) < 1e-9), None)
            if edge_s is None:
                known = ", ".join(f"{edge * 1000:g}" for edge in edges_s)
                raise invalid(f"'threshold_ms' must be one of {known}", param="threshold_ms")
        except Problem as problem:
            return as_response(problem_reply(problem))
        model = request.query_params.get("model", "")
        return as_response(json_reply(window_report(self._telemetry, int(seconds), edge_s, model)))

    async def arrivals(self, request: Request) -> Response:
        """`?seconds=600`: when requests came and how long their texts were, as a trace for a replay."""
        try:
            seconds = _asked_seconds(_number(request, "seconds", 600))
        except Problem as problem:
            return as_response(problem_reply(problem))
        rows, complete = self._telemetry.arrivals.since(self._telemetry.now() - seconds)
        text = await asyncio.to_thread(trace_text, rows, seconds=seconds, complete=complete)  # 20 000 lines: 30 ms
        return Response(text, media_type=TRACE_TYPE)

    async def status(self, _: Request) -> Response:
        """See `reports`."""
        await self._directory.discover()
        await self._processes.look()
        report = status_report(
            self._settings, self._directory, self._cache, self._telemetry, self._processes, self._control
        )
        return as_response(json_reply(report))

    def control(self, *, guarded: bool) -> Endpoint:
        """The endpoint that takes orders; `guarded`: authentication has seen to it who asks."""

        async def control(request: Request) -> Response:
            peer = request.client.host if request.client else None
            try:
                if not guarded:
                    require_this_machine(peer, request.headers)
                require_plain(request.headers.get("content-encoding", ""))
                return as_response(
                    json_reply(self._control.carry_out(await _short_body(request), by=peer or "unknown"))
                )
            except Problem as problem:
                return as_response(problem_reply(problem))

        return control

    def start(self) -> None:
        """Begin to measure how late the event loop is."""
        self._pulse = asyncio.get_running_loop().create_task(self._feel_pulse())

    async def close(self) -> None:
        """Stop measuring."""
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.gather(self._pulse, return_exceptions=True)

    async def _feel_pulse(self) -> None:
        while True:
            due_s = self._telemetry.now() + PULSE_S
            await asyncio.sleep(PULSE_S)
            self._telemetry.stage("loop_lag", max(0.0, self._telemetry.now() - due_s))
            self._telemetry.count_collections()


async def _short_body(request: Request) -> bytes:
    """The body. Raises `Problem` for one that no order needs."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_ORDER:
            raise too_large(MAX_ORDER)
    return body


def _number(request: Request, name: str, default: float) -> float:
    raw = request.query_params.get(name)
    if raw is None:
        return default
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise invalid(f"'{name}' must be a number", param=name)
    return value


def _asked_seconds(value: float) -> float:
    """`value` if that many seconds may be asked for. Raises `Problem` 400."""
    if not 0 < value <= ARRIVALS_S:
        raise invalid(f"'seconds' must be above 0 and at most {ARRIVALS_S:g}", param="seconds")
    return value
