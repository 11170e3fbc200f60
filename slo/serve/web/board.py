"""
What the live page and `slo top` ask for: `/slo/api/board` every two seconds, `/slo/api/history` every ten.

`board` holds what `/slo/api/window` and `/slo/api/status` say, with the verdict, the interval of the P95 and the
distribution beside it. `history` holds points over time, attainment, budget, alerts and changes: from the watcher's
file while somebody watches, else from what this process remembers. No texts, no settings, no addresses of clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from slo.errors import StoreError
from slo.objective import Objective, judge, parse_objective
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.problem import Problem, invalid
from slo.serve.door.responses import json_reply, problem_reply
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import BinCounts, no_counts
from slo.serve.web.history import History
from slo.serve.web.processes import Processes
from slo.serve.web.remembered import Changes, remembered, watched_history
from slo.serve.web.reports import status_report, window_report
from slo.serve.web.timeline import BATCH, OWN_MISTAKE, STEP_S, Timeline, mean_s
from slo.settings_serve import ServeSection
from slo.stats import rank_interval

WINDOW_S = 300
RATE_S = 30  # what "now" means of a rate
LONGEST_S = 30 * 86_400
KEEP_S = 5.0  # a history answer serves all who ask within this time
Endpoint = Callable[[Request], Awaitable[Response]]


def board_objective(environ: Mapping[str, str]) -> Objective:
    """The objective that the launcher hands over in `SLO_OBJECTIVE`; P95 ≤ 150 ms without it."""
    return parse_objective(environ.get("SLO_OBJECTIVE") or "p95 <= 150ms")


def history_path(environ: Mapping[str, str]) -> Path:
    """Where `slo watch` keeps its history: in `SLO_STATE_DIR`, else in `.slo` of the working directory."""
    return Path(environ.get("SLO_STATE_DIR") or ".slo") / "history.db"


class Board:
    """Both endpoints, and the task that closes a step of the timeline every fifteen seconds."""

    def __init__(
        self,
        settings: ServeSection,
        directory: Directory,
        cache: Cache,
        telemetry: Telemetry,
        processes: Processes,
        environ: Mapping[str, str],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.objective = board_objective(environ)
        self._threshold_s = min(telemetry.edges.coarse_s, key=lambda edge: abs(edge - self.objective.threshold_s))
        self.timeline = Timeline(telemetry, wall(), self._threshold_s)
        self.changes = Changes(wall())
        self._settings, self._directory, self._cache, self._telemetry = settings, directory, cache, telemetry
        self._processes = processes
        self._history = History(history_path(environ), self.objective.threshold_ms)
        self._wall = wall
        self._kept: dict[int, tuple[float, dict[str, Any]]] = {}
        self._task: asyncio.Task[None] | None = None

    def table(self) -> Iterator[tuple[str, Endpoint, bool]]:
        """Path, endpoint, and whether it is a data route."""
        yield "/slo/api/board", self.board, True
        yield "/slo/api/history", self.history, True

    def start(self) -> None:
        """Begin to remember; on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._remember())

    async def close(self) -> None:
        """Stop remembering."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def board(self, _: Request) -> Response:
        """The last five minutes, and the state of everything now."""
        if not self._directory.lanes:
            await self._directory.discover()
        await self._processes.look()
        status = status_report(self._settings, self._directory, self._cache, self._telemetry, self._processes)
        del status["settings"]
        figures = {
            "now_s": self._wall(),
            "objective": self._objective_json(),
            "window": self._window(),
            "status": status,
        }
        return _respond(figures)

    async def history(self, request: Request) -> Response:
        """`?seconds=3600`: how it got here."""
        try:
            seconds = int(request.query_params.get("seconds", "3600"))
            if not 60 <= seconds <= LONGEST_S:
                raise ValueError
        except ValueError:
            problem: Problem = invalid(f"'seconds' must be a whole number from 60 to {LONGEST_S}", param="seconds")
            reply = problem_reply(problem)
            return Response(reply.body, reply.status, dict(reply.headers), media_type=reply.content_type)
        now_s = self._wall()
        kept_s, figures = self._kept.get(seconds, (0.0, {}))
        if not 0 <= now_s - kept_s < KEEP_S:
            figures = await self._figures(seconds, now_s)
            self._kept = {s: kept for s, kept in self._kept.items() if now_s - kept[0] < KEEP_S}
            self._kept[seconds] = (now_s, figures)
        return _respond(figures)

    async def _figures(self, seconds: int, now_s: float) -> dict[str, Any]:
        recall, changes = self.timeline.recall(), tuple(self.changes.seen)

        def read() -> dict[str, Any]:
            figures = remembered(recall, changes, self.objective, seconds, now_s)
            try:
                return figures | watched_history(self._history, recall, figures, self.objective, seconds, now_s)
            except StoreError as error:
                return figures | {"problem": error.message}

        # In a thread: a week of minutes takes a while to add up, and the loop has embeddings to serve.
        return await asyncio.to_thread(read)

    def _objective_json(self) -> dict[str, Any]:
        objective = self.objective
        return {"name": str(objective), "target": objective.target, "threshold_ms": objective.threshold_ms}

    def _window(self) -> dict[str, Any]:
        report = window_report(self._telemetry, WINDOW_S, self._threshold_s)
        histograms, _ = self._telemetry.window.sums(WINDOW_S, self._telemetry.now())
        answered = no_counts(self._telemetry.edges)
        for series, counts in histograms.items():
            if series[0] == "request" and series[2] != BATCH and series[3] == "2xx":
                answered = answered + counts
        low_ms, high_ms = _interval_ms(answered)
        return {
            **report,
            "rate": report["total"] / report["covered_s"] if report["covered_s"] > 0 else 0.0,
            "rate_now": self._rate_now(),
            "verdict": judge(report["good"], report["total"], self.objective).verdict.value,
            "p95_low_ms": low_ms,
            "p95_high_ms": high_ms,
            "histogram": {
                "edges_ms": [round(edge * 1000, 6) for edge in answered.edges.coarse_s],
                "counts": _coarse(answered),
            },
            "stages": {
                series[1]: {**report["stages"][series[1]], "mean_ms": round((mean_s(counts) or 0.0) * 1000, 3)}
                for series, counts in histograms.items()
                if series[0] == "stage"
            },
        }

    def _rate_now(self) -> float:
        """Online requests per second that the service answered for, over the last `RATE_S`."""
        histograms, _ = self._telemetry.window.sums(RATE_S, self._telemetry.now())
        asked = (counts.total for series, counts in histograms.items()
                 if series[0] == "request" and series[2] != BATCH and series[3] != OWN_MISTAKE)  # fmt: skip
        age_s = self._telemetry.now() - self._telemetry.started_s
        return sum(asked) / max(1.0, min(RATE_S, age_s))

    async def _remember(self) -> None:
        while True:
            await asyncio.sleep(STEP_S - self._wall() % STEP_S)
            self.timeline.take(self._wall())
            self.changes.look(self._directory.lanes, self._wall())


def _coarse(answered: BinCounts) -> list[int]:
    """BinCounts by the standard edges, exact since both share them; the last one is beyond all edges."""
    return [int(part.sum()) for part in np.split(answered.bins, answered.edges.ends)]


def _interval_ms(answered: BinCounts) -> tuple[float | None, float | None]:
    """95 % interval of the P95 of these answers; None where they are too few to bound it."""
    cumulated = np.cumsum(answered.bins)
    bounds: list[float | None] = []
    for place in rank_interval(answered.total, 0.95):
        inside = 1 <= place <= answered.total
        index = int(np.searchsorted(cumulated, place)) if inside else 0
        bounds.append(round(answered.edges.longest_s(index) * 1000, 3) if inside else None)
    return bounds[0], bounds[1]


def _respond(figures: dict[str, Any]) -> Response:
    reply = json_reply(figures)
    return Response(reply.body, headers={"Cache-Control": "no-store"}, media_type=reply.content_type)
