"""
What happened to every request: cumulative histograms for Prometheus, and the last hour for the window page.

A request is counted by model, length class and code class. Length classes by the longest text, in characters: short
≤ 8, medium ≤ 32, else long; requests of the batch class are "batch", since no deadline is held for them (see
`admission`: an engine that has become slow makes none of them). Codes: 2xx,
4xx (the client's own mistake), 429 (refused), 5xx, timeout, gone (a client that left after more than the deadline, so
for a reason). One that left earlier is no event, and counted as excluded.
Latency runs from the arrival of the last byte of the request's body to the handing over of the answer: how slowly the
client sends and reads is not in it. What sending took is the stage "upload".
The toolkit's own requests (`X-SLO-Source`) are counted apart and are no events of an objective, so that nobody can
hide failures among them: their figures are shown beside.
No text is kept: of each only its length, see `arrivals`.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from slo.serve.telemetry.arrivals import ArrivalLog
from slo.serve.telemetry.window import STANDARD, Edges, Series, Window

STAGES = ("upload", "queue", "tokenise", "wait", "infer", "finish", "call", "serialise", "gc_pause", "loop_lag")
MAX_COMPUTED = 256  # series by replica; beyond that the oldest goes, whatever names a cluster gives
NO_MODEL = "-"  # label of requests that name no model that runs here: names from outside never become labels


def length_class(texts: tuple[str, ...]) -> str:
    """short, medium or long."""
    longest = max(map(len, texts))
    return "short" if longest <= 8 else "medium" if longest <= 32 else "long"


def code_class(status: int, reason: str | None = None) -> str:
    """2xx, 4xx, 429, 5xx, timeout or gone."""
    if reason == "timeout":
        return "timeout"
    if reason == "client_gone":
        return "gone"
    return "429" if status == 429 else f"{status // 100}xx"


@dataclass(frozen=True, slots=True)
class PassTiming:
    """How the pass went that computed a job: seconds on the lane's clock, and the engine's own stages in ms."""

    dispatched_s: float
    wall_s: float
    stages_ms: dict[str, float]

    @property
    def call_s(self) -> float:
        """What the engine did not see of it: the way there and back, and waiting for a turn on either side."""
        return max(0.0, self.wall_s - sum(self.stages_ms.values()) / 1000)


class Fine:
    """A cumulative fine histogram."""

    __slots__ = ("bins", "edges", "sum_s")

    def __init__(self, edges: Edges) -> None:
        self.edges = edges
        self.bins = [0] * edges.bins
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        self.bins[self.edges.bin(seconds)] += 1
        self.sum_s += seconds


class Telemetry:
    """One per API process; written on the event loop only."""

    def __init__(self, monotonic: Callable[[], float] = time.perf_counter, edges: Edges = STANDARD) -> None:
        self.now = monotonic
        self.edges = edges
        self.started_s = monotonic()
        self.window = Window(edges)
        self.arrivals = ArrivalLog()
        self.in_flight = 0
        self.requests: dict[Series, Fine] = {}  # model, length class, code, cache
        self.own_requests: dict[Series, Fine] = {}  # model, length class, source, code, cache
        self.computed_by: dict[Series, Fine] = {}  # model, replica, code; requests of the batch class left out
        self.stages: dict[str, Fine] = {}
        self.counters: dict[Series, int] = {}
        self._gc_started_s = 0.0
        self._gc_pauses_s: deque[float] = deque(maxlen=1000)

    def request(self, model: str, length: str, code: str, *, cached: bool, seconds: float) -> None:
        """One request is answered."""
        series = (model, length, code, "hit" if cached else "miss")
        fine = self.requests.get(series)
        if fine is None:
            fine = self.requests[series] = Fine(self.edges)
        fine.observe(seconds)
        self.window.observe(("request", *series), seconds, self.now())

    def own(self, model: str, length: str, source: str, code: str, *, cached: bool, seconds: float) -> None:
        """One request of the toolkit itself is answered: `source` is probe or bench."""
        series = (model, length, source, code, "hit" if cached else "miss")
        fine = self.own_requests.get(series)
        if fine is None:
            fine = self.own_requests[series] = Fine(self.edges)
        fine.observe(seconds)
        self.window.observe(("own", *series), seconds, self.now())

    def computed(self, model: str, replica: str, code: str, seconds: float) -> None:
        """One request that a replica computed, or owed when it failed, is answered."""
        series = (model, replica, code)
        fine = self.computed_by.get(series)
        if fine is None:
            if len(self.computed_by) >= MAX_COMPUTED:
                del self.computed_by[next(iter(self.computed_by))]
            fine = self.computed_by[series] = Fine(self.edges)
        fine.observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """A part of a request or pass took so long."""
        fine = self.stages.get(name)
        if fine is None:
            fine = self.stages[name] = Fine(self.edges)
        fine.observe(seconds)
        self.window.observe(("stage", name), seconds, self.now())

    def count(self, *series: str, amount: int = 1) -> None:
        """Something happened: `("rejected", reason)`, `("cache", "hit")`, `("pass", "tokens")` …"""
        self.counters[series] = self.counters.get(series, 0) + amount
        self.window.count(series, amount, self.now())

    def passed(self, texts: int, tokens: int, timing: PassTiming) -> None:
        """A pass came back."""
        self.count("pass", "passes")
        self.count("pass", "texts", amount=texts)
        self.count("pass", "tokens", amount=tokens)
        for name, milliseconds in timing.stages_ms.items():
            if name in STAGES:
                self.stage(name, milliseconds / 1000)
        self.stage("call", timing.call_s)

    def on_gc(self, phase: str, _: dict[str, int]) -> None:
        """For `gc.callbacks`: how long the collector held the process up.

        Called anywhere, in any thread, in the middle of whoever reads these very counts: only noted here.
        """
        if phase == "start":
            self._gc_started_s = self.now()
        else:
            self._gc_pauses_s.append(self.now() - self._gc_started_s)

    def count_collections(self) -> None:
        """Count the pauses that were noted since the last time."""
        while self._gc_pauses_s:
            self.stage("gc_pause", self._gc_pauses_s.popleft())

    def watch_gc(self) -> Callable[[], None]:
        """Time every collection from now on; the result undoes it."""
        gc.callbacks.append(self.on_gc)
        return lambda: gc.callbacks.remove(self.on_gc)
