"""
For people who instrument their own Python service: latencies into the same history, under the same objectives.

::

    from slo import monitor, record_metric, get_recent_metrics

    @monitor
    def encode(text): ...

    get_recent_metrics("embedding_latency_ms", "5m")      # [12.3, 14.1, …]

Values are kept in this process for an hour (bounded); whole minutes of `embedding_latency_ms` go to the history file,
as rows of the source `service`, by the thread that happens to record next. Nothing here may break or slow down the
service that it measures: a history that cannot be written is logged once, and its minutes wait for the next attempt.
"""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, overload

from slo.clock import Clock, SystemClock
from slo.errors import RequestError, StoreError
from slo.stats import Histogram
from slo.units import parse_duration
from slo.watch.history.store import Store
from slo.watch.model.counts import Minute
from slo.watch.model.objectives import Goal

LATENCY = "embedding_latency_ms"
KEPT_S = 3600.0
KEPT_VALUES = 200_000  # per metric: an hour at 55 a second; beyond that the oldest go first
KEPT_MINUTES = 120

Function = TypeVar("Function", bound=Callable[..., Any])
_log = logging.getLogger("slo.monitor")


class Recorder:
    """Values of one process. Safe for threads. `goals` are counted when minutes are stored."""

    def __init__(self, path: Path | None, goals: Sequence[Goal], *, clock: Clock | None = None) -> None:
        self._path = path
        self._goals = tuple(goals)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._values: dict[str, deque[tuple[float, float]]] = {}
        self._open: _Open | None = None
        self._waiting: deque[Minute] = deque(maxlen=KEPT_MINUTES)
        self._complained = False

    def record(self, name: str, value: float, *, outcome: str = "ok") -> None:
        """One value now. For `embedding_latency_ms`, `outcome` other than `ok` is a bad request."""
        now_s = self._clock.wall()
        with self._lock:
            if outcome == "ok":
                self._values.setdefault(name, deque(maxlen=KEPT_VALUES)).append((now_s, value))
            if name == LATENCY:
                self._count(value, outcome, now_s)
            ready = tuple(self._waiting)
        if ready:
            self._write(ready)

    def recent(self, name: str, window: str | float) -> list[float]:
        """Values of the last `window` (`5m`), oldest first; at most an hour's."""
        since_s = self._clock.wall() - min(parse_duration(window), KEPT_S)
        with self._lock:
            values = self._values.get(name, deque())
            while values and values[0][0] < self._clock.wall() - KEPT_S:
                values.popleft()
            return [value for at_s, value in values if at_s >= since_s]

    def flush(self) -> None:
        """Store what is known of the current minute as well: for the end of a program."""
        with self._lock:
            self._close()
            ready = tuple(self._waiting)
        if ready:
            self._write(ready)

    def _count(self, value_ms: float, outcome: str, now_s: float) -> None:
        start_s = int(now_s // 60) * 60
        if self._open is not None and self._open.start_s != start_s:
            self._close()
        if self._open is None:
            self._open = _Open(start_s)
        self._open.add(value_ms, outcome, self._goals)

    def _close(self) -> None:
        if self._open is not None:
            self._waiting.append(self._open.minute())
            self._open = None

    def _write(self, ready: Sequence[Minute]) -> None:
        """Store these minutes; only one thread does so at a time, by taking them out of the queue first."""
        with self._lock:
            mine = [minute for minute in ready if minute in self._waiting]
            for minute in mine:
                self._waiting.remove(minute)
        if not mine or self._path is None:
            return
        try:
            with Store(self._path) as store:
                store.record(mine, self._goals)
        except StoreError as error:
            with self._lock:
                self._waiting.extendleft(reversed(mine))
            if not self._complained:
                _log.warning("latencies are not stored for now: %s", error)
            self._complained = True
        else:
            self._complained = False


class _Open:
    """The minute that is being counted."""

    def __init__(self, start_s: int) -> None:
        self.start_s = start_s
        self._histogram = Histogram()
        self._outcomes: dict[str, int] = {}
        self._good: dict[str, int] = {}

    def add(self, value_ms: float, outcome: str, goals: Sequence[Goal]) -> None:
        if outcome != "ok":
            self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
            return
        self._histogram.observe(value_ms / 1000)
        for goal in goals:
            if goal.threshold_ms is not None:
                self._good[goal.event] = self._good.get(goal.event, 0) + (value_ms <= goal.threshold_ms)

    def minute(self) -> Minute:
        return Minute(
            start_s=self.start_s,
            source="service",
            histogram=self._histogram,
            outcomes=self._outcomes,
            good=self._good,
        )


@functools.cache
def default_recorder() -> Recorder:
    """This process's recorder, as `configs/slo.yaml` and the environment say; made when it is first used."""
    from slo.config import load  # noqa: PLC0415 (a service that never records must not need a configuration)
    from slo.watch.wiring import goals_of, history_path  # noqa: PLC0415

    config = load()
    return Recorder(history_path(config), goals_of(config))


def record_metric(name: str, value: float) -> None:
    """Record one value: `record_metric("embedding_latency_ms", 12.3)`."""
    default_recorder().record(name, value)


def get_recent_metrics(name: str, window: str | float = "5m") -> list[float]:
    """Values that this process recorded within `window`, oldest first."""
    return default_recorder().recent(name, window)


@overload
def monitor(function: Function, *, recorder: Recorder | None = None) -> Function: ...


@overload
def monitor(*, recorder: Recorder | None = None) -> Callable[[Function], Function]: ...


def monitor(function: Function | None = None, *, recorder: Recorder | None = None) -> Any:
    """Decorator: time each call of a function, plain or `async`, as one request. A call that raises is a bad one."""
    if function is None:
        return functools.partial(monitor, recorder=recorder)

    def done(started: float, error: BaseException | None) -> None:
        took_ms = (time.perf_counter() - started) * 1000  # before anything of ours: the first call loads settings
        outcome = "ok" if error is None else error.outcome if isinstance(error, RequestError) else "error"
        (recorder or default_recorder()).record(LATENCY, took_ms, outcome=outcome)

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def timed_async(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                result = await function(*args, **kwargs)
            except BaseException as error:
                done(started, error)
                raise
            done(started, None)
            return result

        return cast("Function", timed_async)

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            done(started, error)
            raise
        done(started, None)
        return result

    return cast("Function", timed)
