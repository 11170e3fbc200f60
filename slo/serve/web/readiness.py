"""
Is the service able to do its work now? A real embedding says so, at most once a second.

The embedding goes the way of every request, except for the cache and admission: a full queue is no reason to be
unready, and a cached vector would prove nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

import numpy as np

from slo.serve.door.directory import Directory
from slo.serve.door.lane import Lane
from slo.serve.door.problem import Problem
from slo.serve.telemetry.telemetry import Telemetry

KEEP_S = 1.0
TIMEOUT_S = 5.0
TEXT = "就绪探测 readiness"


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
