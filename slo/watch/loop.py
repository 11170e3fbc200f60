"""
The watcher: a check at a steady rate, a verdict over the last minutes, a line for each, and an alert that stands out.

It keeps going whatever the server does: down, restarted, hung or refusing, each is a result. A journal that cannot be
written is reported and does not stop the watch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from slo.clock import Clock, iso
from slo.errors import ConfigError, StoreError, Unauthorized
from slo.objective import Judgement, Objective
from slo.units import show_duration
from slo.watch.checker import compared
from slo.watch.interrupt import StopSwitch
from slo.watch.rhythm import Rhythm
from slo.watch.sli.probe import Tally
from slo.watch.state import Event, State, event, following
from slo.watch.window import Batch, Window


class Store(Protocol):
    """Where each check's counts go."""

    def append(self, record: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one check of the watcher says: its line, and the event with its sentence if there was one."""

    at_wall_s: float
    state: State
    event: Event | None
    text: str
    announcement: str
    record: dict[str, Any]

    def lines(self) -> Iterator[str]:
        """The check, then the event."""
        yield f"{iso(self.at_wall_s)}  {self.state.value:<8}  {self.text}"
        if self.event:
            yield f"{iso(self.at_wall_s)}  {self.announcement}: {self.text}"


class Watcher:
    """Turns one check after another into reports. `measure()` probes once, or says why it cannot."""

    def __init__(
        self,
        measure: Callable[[], Tally],
        objective: Objective,
        *,
        window_s: float,
        interval_s: float,
        model: str,
        clock: Clock,
    ) -> None:
        self.state = State.STARTING
        self._measure = measure
        self._objective = objective
        self._window_s = window_s
        self._window = Window(length_s=window_s, interval_s=interval_s)
        self._model = model
        self._clock = clock
        self._since_s = clock.monotonic()  # of the state

    def check(self) -> Report:
        """One check now."""
        at_s, at_wall_s = self._clock.monotonic(), self._clock.wall()
        tally, problem = Tally(self._objective), ""
        try:
            tally = self._measure()
            problem = tally.last_error.message if tally.last_error else ""
        except (Unauthorized, ConfigError) as error:  # our own fault: no statement about the service
            problem = error.message
        judgement = None
        if tally.total:
            self._window.add(Batch(at_s, tally.good, tuple(tally.latencies_ms)))
            judgement = self._window.judgement(self._objective)
        after = following(self.state, judgement)
        what, lasted_s = event(self.state, after), at_s - self._since_s
        if after is not self.state:
            self.state, self._since_s = after, at_s
        return Report(
            at_wall_s=at_wall_s,
            state=after,
            event=what,
            text=self._text(judgement, tally, problem),
            announcement=self._announcement(what, lasted_s),
            record=self._record(at_wall_s, judgement, tally, problem, what),
        )

    def _announcement(self, what: Event | None, lasted_s: float) -> str:
        match what:
            case Event.ALERT:
                return f"{what.value} {self._model} misses {self._objective}"
            case Event.NO_DATA:
                return f"{what.value} about {self._model}: nobody knows whether {self._objective} holds"
            case Event.RECOVERED:
                return f"{what.value} {self._model} holds {self._objective} again after {show_duration(lasted_s)}"
        return ""

    def _text(self, judgement: Judgement | None, tally: Tally, problem: str) -> str:
        if judgement is None:
            return f"nothing measured: {problem or 'no probe was answered'}"
        parts = [
            compared(self._window.latency_ms(self._objective.target), self._objective),
            f"{judgement.good}/{judgement.total} good in {show_duration(self._window_s)}",
            f"now {tally.good}/{tally.total}",
            self._model,
        ]
        if tally.outage:
            parts.append(f"OUTAGE: {problem}")
        elif tally.failures:
            parts.append(", ".join(f"{n} {kind}" for kind, n in sorted(tally.failures.items())) + f": {problem}")
        return "  ".join(parts)

    def _record(
        self, at_wall_s: float, judgement: Judgement | None, tally: Tally, problem: str, what: Event | None
    ) -> dict[str, Any]:
        return {
            "at": iso(at_wall_s),
            "model": self._model,
            "objective": str(self._objective),
            "good": tally.good,
            "total": tally.total,
            "latency_ms": tally.latency_ms,
            "failures": dict(tally.failures),
            "window_s": self._window_s,
            "window_good": judgement.good if judgement else 0,
            "window_total": judgement.total if judgement else 0,
            "window_latency_ms": self._window.latency_ms(self._objective.target) if judgement else None,
            "verdict": judgement.verdict.value if judgement else None,
            "state": self.state.value,
            "event": what.value if what else None,
            "problem": problem,
        }


def watch(
    watcher: Watcher,
    *,
    interval_s: float,
    clock: Clock,
    store: Store,
    say: Callable[[Report], None],
    complain: Callable[[str], None],
    times: int | None = None,
    stop: StopSwitch | None = None,
) -> State:
    """Check now and every `interval_s`, `times` times or until stopped; the state that it ended in.

    A stop is heard while waiting and while probing, and a check that it cuts short is not counted.
    """
    interruptible = stop.interruptible if stop else nullcontext

    def once() -> None:
        with interruptible():
            report = watcher.check()
        say(report)
        try:
            store.append(report.record)
        except StoreError as error:
            complain(str(error))

    Rhythm(once, interval_s=interval_s, clock=clock).run(times, interruptible)
    return watcher.state
