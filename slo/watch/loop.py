"""
The watch's loop: a round at a steady rate, a line for each, and an alert that stands out.

The line says what the alert rules found and nothing else: the window they judged, and the alerts that are pending,
firing, or resolved with this round. It keeps going whatever the server does: down, restarted, hung or refusing, each
is a result. A journal that cannot be written, or a mistake of our own in one round, is reported and does not stop the
watch; such a round gives no sign of life, and what it could not measure is no data.

The rate is kept by the `schedule` library on a scheduler of its own. It goes by the local wall clock, counts the
interval from the end of the job, and would pause for an hour when the clock is put back by one. So the next run is set
from the monotonic clock after each run, a run that the wall clock withholds is made all the same, and one that it calls
for early (a machine woken from suspension) is welcome. Missed runs are not replayed.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import schedule

from slo.clock import Clock, iso
from slo.errors import ConfigError, Unauthorized
from slo.interrupt import StopSwitch
from slo.objective import Judgement, Objective, judge
from slo.units import show_duration
from slo.watch.alerting.alerts import AlertChange, Phase
from slo.watch.alerting.round import Announcement, Round, WatchState, event_of, news, state_of
from slo.watch.alerting.rules import Rule
from slo.watch.checker import compared
from slo.watch.model.latency import percentile
from slo.watch.sli.probe import ProbeTally


class Rhythm:
    """Runs `job` at once and then every `interval_s`."""

    def __init__(self, job: Callable[[], None], *, interval_s: float, clock: Clock) -> None:
        self.scheduler = schedule.Scheduler()
        self._interval_s = interval_s
        self._clock = clock
        self._due_s = clock.monotonic()
        # The library's annotation says int; its arithmetic is timedelta(seconds=…), which takes fractions.
        self.scheduler.every(interval_s).seconds.do(job)  # type: ignore[arg-type, unused-ignore]

    def run(self, times: int | None, sleeping: Callable[[], AbstractContextManager[None]]) -> None:
        """Run the job `times` times (None: for ever), waiting inside `sleeping()`."""
        done = 0
        while times is None or done < times:
            if done:
                with sleeping():
                    self._wait()
            started_s = self._clock.monotonic()
            self.scheduler.run_all()
            done += 1
            self._plan(started_s)

    def _wait(self) -> None:
        """Until the monotonic clock or the scheduler says that the job is due."""
        while (left_s := self._due_s - self._clock.monotonic()) > 0:
            idle_s = self.scheduler.idle_seconds
            if idle_s is not None and idle_s <= 0:
                return
            # In steps, to see a wall clock that was put forward.
            self._clock.sleep(min(left_s, 1.0))

    def _plan(self, started_s: float) -> None:
        """Due one interval after it was due last (or ran early), or after now if that has passed."""
        now_s = self._clock.monotonic()
        self._due_s = min(self._due_s, started_s) + self._interval_s
        if self._due_s <= now_s:
            self._due_s = now_s + self._interval_s
        for job in self.scheduler.get_jobs():
            job.next_run = datetime.now() + timedelta(seconds=self._due_s - now_s)


class Rounds(Protocol):
    """What is done in a round; `slo.watch.watcher`."""

    @property
    def measured(self) -> Mapping[str, int]:
        """Requests of the round that is being measured, by source."""
        ...

    def measure(self) -> ProbeTally: ...

    def conclude(self) -> Round: ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one round says: its line, and the event with its sentence if there was one."""

    at_wall_s: float
    state: WatchState
    event: Announcement | None
    text: str
    announcement: str
    record: dict[str, Any]

    def lines(self) -> Iterator[str]:
        """The round, then the event."""
        yield f"{iso(self.at_wall_s)}  {self.state.value:<8}  {self.text}"
        if self.event:
            yield f"{iso(self.at_wall_s)}  {self.announcement}: {self.text}"


class Reporter:
    """Turns one round after another into reports: `measure()`, which may be cut short, then `report()`."""

    def __init__(self, rounds: Rounds, objective: Objective, *, goal: str, window_s: float, model: str) -> None:
        """`goal` is the name under which the engine counts `objective`."""
        self.state = WatchState.NO_DATA
        self._rounds = rounds
        self._objective = objective
        self._goal = goal
        self._window_s = window_s
        self._model = model
        self._tally, self._problem = ProbeTally(objective), ""
        self._since_s: float | None = None  # of the oldest alert that fires

    def measure(self) -> None:
        """Look at the service, once."""
        self._tally, self._problem = ProbeTally(self._objective), ""
        try:
            self._tally = self._rounds.measure()
            self._problem = self._tally.last_error.message if self._tally.last_error else ""
        except (Unauthorized, ConfigError) as error:  # our own fault: no statement about the service
            self._problem = error.message
        except Exception as error:  # noqa: BLE001 - the watch must outlive its own mistakes; the line tells of this one
            self._problem = unforeseen(error)

    def report(self) -> Report:
        """What was measured, as the engine judges it."""
        sources = dict(self._rounds.measured)
        found = self._rounds.conclude()
        counts = found.windows[self._goal]
        window = judge(counts.good, counts.total, self._objective)
        self.state, what = state_of(found, window, measured=bool(sources)), event_of(found)
        latency_ms = self._latency_ms(found, window)
        text = self._text(found, window, latency_ms, sources)
        announcement = self._announcement(found, what)
        self._since_s = min((found.alerts[rule.key].since_s or found.at_s for rule in found.firing), default=None)
        return Report(
            at_wall_s=found.at_s,
            state=self.state,
            event=what,
            text=text,
            announcement=announcement,
            record=self._record(found, window, latency_ms, sources, what),
        )

    def _latency_ms(self, found: Round, window: Judgement) -> float:
        """The percentile of the window, from its histogram; the counts decide on which side of the threshold it lies.

        They are exact, and the histogram is not where the threshold is none of its edges.
        """
        objective = self._objective
        value_ms = percentile(found.histogram, found.failed, objective.target).value_ms
        if not window.total:
            return value_ms
        held = window.bad <= objective.budget * window.total + 1e-9
        return (
            min(value_ms, objective.threshold_ms)
            if held
            else max(value_ms, math.nextafter(objective.threshold_ms, math.inf))
        )

    def _announcement(self, found: Round, what: Announcement | None) -> str:
        match what:
            case Announcement.ALERT:
                worst = news(found)[0]
                return f"{what.value} {worst.severity} {', '.join(rule.alert for rule in worst.rules)} of {self._model}"
            case Announcement.EASED:
                return f"{what.value} {self._model}, nothing that wakes people fires any more"
            case Announcement.RECOVERED:
                lasted_s = 0.0 if self._since_s is None else found.at_s - self._since_s
                lasted = f" after {show_duration(lasted_s)}" if lasted_s > 0 else ""
                return f"{what.value} {self._model}, no alert fires any more{lasted}"
        return ""

    def _text(self, found: Round, window: Judgement, latency_ms: float, sources: Mapping[str, int]) -> str:
        tally, parts = self._tally, list[str]()
        if sources:
            parts += [compared(latency_ms, self._objective)]
            parts += [f"{window.good}/{window.total} good in {show_duration(self._window_s)}"] if window.total else []
            parts += [f"now {tally.good}/{tally.total}", self._model]
        else:
            parts += [f"nothing measured: {self._problem or 'no probe was answered'}"]
        if tally.outage:
            parts += [f"OUTAGE: {self._problem}"]
        elif tally.failures:
            kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.failures.items()))
            parts += [f"{kinds}: {self._problem}" if self._problem else kinds]
        elif sources and self._problem:
            parts += [self._problem]
        if tally.truncated:
            parts += [f"{tally.truncated} texts longer than the model takes"]
        if found.maintenance is not None:
            parts += [f"maintenance: {found.maintenance.reason}"]
        for word, rules in _by_phase(found).items():
            parts += [f"{word}: {', '.join(_named(rule, found) for rule in rules)}"] if rules else []
        if set(sources) - {"probe"}:
            parts += [f"[{' + '.join(f'{count} {source}' for source, count in sources.items())}]"]
        return "  ".join(parts)

    def _record(
        self, found: Round, window: Judgement, latency_ms: float, sources: Mapping[str, int], what: Announcement | None
    ) -> dict[str, Any]:
        return {
            "at": iso(found.at_s),
            "model": self._model,
            "objective": str(self._objective),
            "good": self._tally.good,
            "total": self._tally.total,
            "failures": dict(self._tally.failures),
            "truncated": self._tally.truncated,
            "sources": dict(sources),
            "window_s": self._window_s,
            "window_good": window.good,
            "window_total": window.total,
            "window_latency_ms": latency_ms if window.total else None,
            "verdict": window.verdict.value if window.total else None,
            "state": self.state.value,
            **{word: [rule.key for rule in rules] for word, rules in _by_phase(found).items()},
            "event": what.value if what else None,
            "problem": self._problem,
        }


def _by_phase(found: Round) -> dict[str, tuple[Rule, ...]]:
    """The alerts worth a word, by where they stand."""
    return {
        "firing": found.firing,
        "pending": tuple(rule for key, rule in found.rules.items() if found.alerts[key].phase is Phase.PENDING),
        "resolved": tuple(rule for rule, change in found.changes if change is AlertChange.RESOLVED),
    }


def _named(rule: Rule, found: Round) -> str:
    why = found.suppressed.get(rule.key)
    return f"{rule.alert} ({rule.severity}, {why})" if why else f"{rule.alert} ({rule.severity})"


def unforeseen(error: Exception) -> str:
    """A mistake of this program, with the place where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"internal error, {type(error).__name__}{place}: {error}"


def watch(
    watcher: Reporter,
    *,
    interval_s: float,
    clock: Clock,
    say: Callable[[Report], None],
    complain: Callable[[str], None],
    times: int | None = None,
    stop: StopSwitch | None = None,
) -> WatchState:
    """A round now and every `interval_s`, `times` times or until stopped; the state that it ended in.

    A stop is heard while waiting and while measuring, and a round that it cuts short is not counted.
    """
    interruptible = stop.interruptible if stop else nullcontext

    def once() -> None:
        with interruptible():
            watcher.measure()
        try:
            report = watcher.report()
        except Exception as error:  # noqa: BLE001 - as above: reported, and the next round comes
            watcher.state = WatchState.NO_DATA
            complain(f"this round came to nothing: {unforeseen(error)}")
            return
        say(report)

    Rhythm(once, interval_s=interval_s, clock=clock).run(times, interruptible)
    return watcher.state
