"""
What the engine must not forget when its process ends: alerts, what was told, up to where it counted.

And what the wall clock is believed (`ClockCheck`): to which minute a round belongs, and whether what is old may be
thrown away. Old is what two clocks agree on. A wall clock may be 40 days ahead for some seconds, until somebody sets it
right; by then nothing is left of a budget that was purged by it. It is believed when it has kept pace with the
monotonic clock for a day, or when it goes on from the last instant that was believed. A machine that was switched off
for longer waits for a day as well.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from slo.errors import StoreError
from slo.watch.alerting.alerts import Alert, alert_from_json
from slo.watch.alerting.grouping import TIERS, Group, Tier, group_from_json
from slo.watch.history.store import Store

KEY = "engine"


@dataclass(kw_only=True)
class Checkpoint:
    """What survives a restart. `instance` tells this history from one that is started anew: message ids hold it."""

    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    last_slot_s: int | None = None
    last_data_s: float | None = None
    compacted_s: float = 0.0
    believed_s: float | None = None  # the last wall-clock second that two clocks agreed on
    renewed_s: float | None = None  # when the history was begun anew, its file being damaged
    unreadable: bool = False  # what was kept could not be understood
    alerts: dict[str, Alert] = field(default_factory=dict)
    groups: dict[Tier, Group] = field(default_factory=lambda: {name: Group() for name in TIERS})
    ended: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, kept under `KEY`."""
        return {
            "instance": self.instance,
            "last_slot_s": self.last_slot_s,
            "last_data_s": self.last_data_s,
            "compacted_s": self.compacted_s,
            "believed_s": self.believed_s,
            "renewed_s": self.renewed_s,
            "alerts": {key: alert.to_json() for key, alert in self.alerts.items()},
            "groups": {name: group.to_json() for name, group in self.groups.items()},
            "ended": self.ended,
        }


def load_checkpoint(store: Store) -> Checkpoint:
    """What the watcher before this one kept; what cannot be understood is as good as nothing."""
    try:
        data = store.state(KEY)
    except StoreError:  # damage, which the first write mends or reports
        return Checkpoint(unreadable=True)
    if not data:
        return Checkpoint()
    try:
        return Checkpoint(
            instance=str(data["instance"]),
            last_slot_s=data["last_slot_s"],
            last_data_s=data["last_data_s"],
            compacted_s=float(data["compacted_s"]),
            believed_s=data.get("believed_s", data["last_slot_s"]),
            renewed_s=data.get("renewed_s"),
            alerts={key: alert_from_json(value) for key, value in data["alerts"].items()},
            groups={name: group_from_json(data["groups"][name]) for name in TIERS},
            ended=dict(data["ended"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, StoreError):
        return Checkpoint(unreadable=True)


def next_slot(now_s: float, last_slot_s: int | None, interval_s: int) -> int:
    """Start of the slice that the round at `now_s` (wall clock) closes.

    Follows the slot before it as long as the wall clock agrees to within an interval: rounds that come a few
    milliseconds early or late would otherwise share a slot now and leave one empty then. A clock that was set, a
    pause, or a suspended machine starts over from the clock.
    """
    natural = int((now_s - interval_s) // interval_s) * interval_s
    if last_slot_s is not None and abs(natural - last_slot_s - interval_s) <= interval_s:
        return last_slot_s + interval_s
    return natural


DAY_S = 86400.0
STEP_S = 60.0  # clocks that drift apart by more than this between two looks have been set


class ClockCheck:
    """`believed_s` is the last wall-clock second that was believed; None in a new history, which can lose nothing."""

    def __init__(self, believed_s: float | None) -> None:
        self.believed_s = believed_s
        self._last: tuple[float, float] | None = None
        self._calm_since_s = 0.0  # monotonic

    def look(self, wall_s: float, monotonic_s: float) -> bool:
        """Both clocks as they are now: is the wall clock believed?"""
        if self._last is None or abs((wall_s - self._last[0]) - (monotonic_s - self._last[1])) > STEP_S:
            self._calm_since_s = monotonic_s
        self._last = wall_s, monotonic_s
        goes_on = self.believed_s is None or wall_s - self.believed_s <= DAY_S
        if not goes_on and monotonic_s - self._calm_since_s < DAY_S:
            return False
        self.believed_s = wall_s
        return True
