"""
The life of one alert, as a pure step per evaluation::

    inactive ──condition──► pending ──held for `for_s`──► firing ──clear for its hold──► inactive
                               └──condition gone──► inactive

Nothing is sent here: `grouping.py` decides what people hear. An evaluation that nobody can judge (no data) changes
nothing: no data is not good, and has an alert of its own.

Flapping: an alert that fires again within an hour of having resolved is held longer before it may resolve: 10 minutes
after the first relapse, 20 after further ones. So an alert that comes and goes sends at most one message per ten
minutes, while a first recovery is still announced at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from slo.errors import StoreError
from slo.watch.alerting.rules import Condition, Rule

RELAPSE_S = 3600.0
_HOLDS_S = (0.0, 600.0, 1200.0)  # by number of relapses within RELAPSE_S


class Phase(Enum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"


class AlertChange(Enum):
    """What a step did, where that is worth a line of history."""

    PENDING = "pending"
    FIRED = "firing"
    RESOLVED = "resolved"
    WITHDRAWN = "withdrawn"  # pending, and gone again


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """State of one rule. Times are wall-clock seconds; None where it does not apply.

    `since_s` is when the condition began to hold, `clear_s` when a firing alert's condition was first seen clear.
    `relapses` are the times at which it fired again soon after it had resolved.
    """

    phase: Phase = Phase.INACTIVE
    since_s: float | None = None
    fired_s: float | None = None
    clear_s: float | None = None
    resolved_s: float | None = None
    relapses: tuple[float, ...] = ()
    values: dict[str, float] = field(default_factory=dict)

    @property
    def firing(self) -> bool:
        return self.phase is Phase.FIRING

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `alert_from_json` reads it."""
        return {**asdict(self), "phase": self.phase.value}


def alert_from_json(data: dict[str, Any]) -> Alert:
    """The state that `to_json` described. Raises `StoreError` if it is not one."""
    try:
        return Alert(**{**data, "phase": Phase(data["phase"]), "relapses": tuple(data["relapses"])})
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"not an alert's state: {error}") from error


def step(alert: Alert, rule: Rule, reading: Condition, now_s: float) -> tuple[Alert, AlertChange | None]:
    """The state after one evaluation, and what changed. A wall clock that went back restarts the waits."""
    if reading.active is None:
        return alert, None
    alert = replace(alert, values=dict(reading.values)) if reading.values else alert
    if reading.active:
        return _held(alert, rule, now_s)
    if alert.phase is Phase.PENDING:
        return replace(alert, phase=Phase.INACTIVE, since_s=None), AlertChange.WITHDRAWN
    if alert.phase is Phase.FIRING:
        return _cleared(alert, rule, now_s)
    return alert, None


def hold_s(alert: Alert, rule: Rule, now_s: float) -> float:
    """How long the condition must stay clear before the alert resolves."""
    recent = sum(now_s - at_s < RELAPSE_S for at_s in alert.relapses)
    return max(rule.clear_s, _HOLDS_S[min(recent, len(_HOLDS_S) - 1)])


def _held(alert: Alert, rule: Rule, now_s: float) -> tuple[Alert, AlertChange | None]:
    if alert.phase is Phase.FIRING:
        return replace(alert, clear_s=None), None
    since_s = now_s if alert.since_s is None else min(alert.since_s, now_s)
    # Half a second: an evaluation a few milliseconds early is still the one that was meant.
    if now_s - since_s >= rule.for_s - 0.5:
        relapse = alert.resolved_s is not None and now_s - alert.resolved_s < RELAPSE_S
        kept = tuple(at_s for at_s in alert.relapses if now_s - at_s < RELAPSE_S)
        return replace(
            alert,
            phase=Phase.FIRING,
            since_s=since_s,
            fired_s=now_s,
            clear_s=None,
            relapses=(*kept, now_s) if relapse else kept,
        ), AlertChange.FIRED
    if alert.phase is Phase.PENDING:
        return replace(alert, since_s=since_s), None
    return replace(alert, phase=Phase.PENDING, since_s=since_s), AlertChange.PENDING


def _cleared(alert: Alert, rule: Rule, now_s: float) -> tuple[Alert, AlertChange | None]:
    clear_s = now_s if alert.clear_s is None else min(alert.clear_s, now_s)
    if now_s - clear_s < hold_s(alert, rule, now_s) - 0.5:
        return replace(alert, clear_s=clear_s), None
    return replace(
        alert, phase=Phase.INACTIVE, since_s=None, fired_s=None, clear_s=None, resolved_s=now_s
    ), AlertChange.RESOLVED
