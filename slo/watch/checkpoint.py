"""What the engine must not forget when its process ends: alerts, what was told, up to where it counted."""

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
