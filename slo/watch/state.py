"""
One word for what a round found, and the event that it announces; pure, and from the alert engine alone.

The word is the most urgent alert that fires. While none does, it says what the last minutes show: nobody measured
anything, agreed maintenance, an objective missed beyond chance that is not alerted of yet, one missed perhaps by
chance (unproven), or "ok". So "ok" never stands beside an alert that fires or a percentile that is too high, and
RECOVERED comes when the last alert has ended, not before.
"""

from __future__ import annotations

from enum import Enum

from slo.objective import Judgement, Verdict
from slo.watch.alerting.alerts import Change
from slo.watch.alerting.grouping import Notice
from slo.watch.alerting.round import Round
from slo.watch.model.notification import SEVERITIES


class State(Enum):
    """How things stand after a round; the first four are the severity of the worst alert that fires."""

    CRITICAL = "critical"
    PAGE = "page"
    TICKET = "ticket"
    INFO = "info"
    NO_DATA = "no-data"
    EXCUSED = "excused"
    MISSED = "missed"
    UNPROVEN = "unproven"
    OK = "ok"

    @property
    def exit_code(self) -> int:
        """0 ok, 1 missed or alerted, 3 nothing known for sure."""
        return {State.OK: 0, State.NO_DATA: 3, State.EXCUSED: 3, State.UNPROVEN: 3}.get(self, 1)


class Event(Enum):
    """What is worth a line of its own."""

    ALERT = "ALERT"
    EASED = "EASED"
    RECOVERED = "RECOVERED"


def state_of(found: Round, window: Judgement, *, measured: bool) -> State:
    """The word for a round; `window` judges its last minutes, `measured` says whether it brought anything itself."""
    severity = min((rule.severity for rule in found.firing), key=SEVERITIES.index, default=None)
    if severity is not None:
        return State(severity)
    if not measured:
        return State.NO_DATA
    if found.maintenance is not None:
        return State.EXCUSED
    if window.verdict is Verdict.MISSED:
        return State.MISSED
    if not window.total:  # requests, and nobody can say how fast they were
        return State.UNPROVEN
    return State.UNPROVEN if window.bad > window.objective.budget * window.total + 1e-9 else State.OK


def event_of(found: Round) -> Event | None:
    """ALERT: people are told of an alert, or of a more urgent one. RECOVERED: nothing fires any more.

    EASED: people are told that what woke them is over, and something that wakes nobody, or says the same later, fires.
    """
    if told(found):
        return Event.ALERT
    if found.firing:
        over = any(name == "wake" and notice.kind == "resolved" for name, notice in found.notices)
        return Event.EASED if over else None
    return Event.RECOVERED if any(change is Change.RESOLVED for _, change in found.changes) else None


def told(found: Round) -> list[Notice]:
    """The news of this round for people, the most urgent first."""
    return [notice for _, notice in found.notices if notice.kind in ("firing", "escalated")]
