"""
Is it time to wake somebody? A pure step from one state to the next, one per check.

An alert needs proof: the window must *miss* the objective beyond chance, so one slow probe, or five, alarms nobody.
The way back needs less, and yet cannot flap: the window must hold the objective as measured, on at least as many
probes as prove anything. At P95 with 300 probes in the window that is an alert from 22 bad ones (7.3 %), and a
recovery at 15 (5 %). No data is a state of its own, and never a good one.
"""

from __future__ import annotations

from enum import Enum

from slo.objective import Judgement, Verdict, samples_to_meet


class State(Enum):
    """What the watcher believes."""

    STARTING = "starting"
    OK = "ok"
    VIOLATED = "violated"
    NO_DATA = "no-data"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 violated, 3 nothing known."""
        return {State.OK: 0, State.VIOLATED: 1}.get(self, 3)


class Event(Enum):
    """What is worth a line of its own."""

    ALERT = "ALERT"
    NO_DATA = "ALERT no data"
    RECOVERED = "RECOVERED"


def following(state: State, window: Judgement | None) -> State:
    """The state after a check; `window` is None when the check could measure nothing."""
    if window is None:
        return State.NO_DATA
    if window.verdict is Verdict.MISSED:
        return State.VIOLATED
    if state is State.VIOLATED and not _held(window):
        return State.VIOLATED
    return State.OK


def event(before: State, after: State) -> Event | None:
    """What the step from `before` to `after` announces; None for nothing new."""
    if after is before:
        return None
    if after is State.VIOLATED:
        return Event.ALERT
    if after is State.NO_DATA:
        return Event.NO_DATA
    return None if before is State.STARTING else Event.RECOVERED


def _held(window: Judgement) -> bool:
    enough = window.total >= samples_to_meet(0, window.objective)
    return enough and window.good_ratio >= window.objective.target
