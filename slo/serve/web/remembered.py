"""
`/slo/api/history` as plain values: from the memory of this process, and from the watcher's file on top of it.

`Changes` are those that the API process sees by itself: its start, and models that begin to be served in another way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from slo.objective import Objective
from slo.serve.door.lane import Lane
from slo.serve.web.history import Event, History, Slot
from slo.serve.web.timeline import STEP_S, Point, Recall

MOST = 100


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is `start`, `launch` or `replicas`; `detail` says what it was changed to."""

    at_s: float
    kind: str
    detail: str


class Changes:
    """The last `MOST` changes. `look` is called every few seconds."""

    def __init__(self, started_s: float) -> None:
        self.seen: deque[Change] = deque([Change(started_s, "start", "")], maxlen=MOST)
        self._weights: dict[str, tuple[int, str]] = {}
        self._replicas: dict[str, int] = {}

    def look(self, lanes: Iterable[Lane], now_s: float) -> None:
        """Note what is different from the last look."""
        for lane in lanes:
            status = lane.replicas[0].status if lane.replicas else {}
            served = " ".join(str(status[key]) for key in ("engine", "precision") if status.get(key))
            weights = (lane.generation, served)
            if lane.replicas and self._weights.get(lane.model) != weights:
                self._weights[lane.model] = weights
                self._note(now_s, "launch", f"{lane.model} {served}".strip())
            elif self._replicas.get(lane.model, len(lane.replicas)) != len(lane.replicas):
                self._note(now_s, "replicas", f"{lane.model}: {len(lane.replicas)}")
            self._replicas[lane.model] = len(lane.replicas)

    def _note(self, at_s: float, kind: str, detail: str) -> None:
        self.seen.append(Change(at_s, kind, detail))


ATTAINMENT_S = (300, 3600, 86_400)
PERIOD_S = 30 * 86_400
RECENT_S = 3600  # the burn rate is that of the last hour
MOST_POINTS = 120
MULTIPLES = (1, 2, 4, 12, 20, 60, 120, 240, 480, 1440)
MINUTE_S = 60
MOST_EVENTS = 20
MOST_ALERT_EVENTS = 500
ALERTS_S = 7 * 86_400


def remembered(
    recall: Recall, changes: Iterable[Change], objective: Objective, seconds: int, now_s: float
) -> dict[str, Any]:
    """Points, attainment and budget since this process began."""
    step_s = step_for(seconds, STEP_S)
    from_s, to_s = span(seconds, step_s, now_s)
    return {
        "source": "memory",
        "watched": False,
        "now_s": now_s,
        "from_s": from_s,
        "to_s": to_s,
        "step_s": step_s,
        "points": [_point(point) for point in recall.points(from_s, step_s)],
        "attainment": [_share(length, recall.counts(length, now_s)) for length in ATTAINMENT_S],
        "budget": budget(recall.since_start, recall.counts(RECENT_S, now_s), objective),
        "started_s": recall.started_s,
        "alerts": [],
        "changes": [{"at_s": change.at_s, "kind": change.kind, "detail": change.detail} for change in changes],
    }


def watched_history(
    history: History, recall: Recall, memory: Mapping[str, Any], objective: Objective, seconds: int, now_s: float
) -> dict[str, Any]:
    """What replaces parts of `memory` while a watcher runs; nothing otherwise. Raises `StoreError`.

    The file is up to two minutes behind: what it does not hold yet comes from `recall`, so that nobody waits for a
    violation to be seen. Attainment over a time that this process has lived through is its own, as the verdict is.
    """
    if not history.watched(now_s):
        return {}
    found: dict[str, Any] = {"watched": True}
    if memory["started_s"] > now_s - seconds:  # the file reaches further back than this process
        step_s = step_for(seconds, MINUTE_S)
        from_s, to_s = span(seconds, step_s, now_s)
        points = [_slot(slot) for slot in history.slots(from_s, to_s, step_s)]
        reached_s = points[-1]["t_s"] + step_s if points else from_s
        fresh = (point for point in recall.points(from_s, step_s) if point.start_s >= reached_s)
        points += [_point(point) for point in fresh if point.total]
        found |= {"source": "store", "from_s": from_s, "to_s": to_s, "step_s": step_s, "points": points}
    recent, period = history.counts(now_s - RECENT_S, now_s), history.counts(now_s - PERIOD_S, now_s)
    if period[1]:
        found["attainment"] = [
            own
            if memory["started_s"] <= now_s - own["seconds"]
            else _share(own["seconds"], history.counts(now_s - own["seconds"], now_s))
            for own in memory["attainment"]
        ]
        found["budget"] = {**budget(period, recent, objective), "period_s": PERIOD_S}
    since_s = now_s - max(seconds, 86_400)
    changes = [
        {"at_s": event.at_s, "kind": kind, "detail": " ".join(filter(None, (event.subject, event.text)))}
        for kind in ("change", "action")
        for event in history.events(kind, since_s, MOST_EVENTS)
    ]
    alerts = episodes(history.events("alert", now_s - ALERTS_S, MOST_ALERT_EVENTS))
    return found | {
        "alerts": alerts[-MOST_EVENTS:],
        "changes": sorted([*memory["changes"], *changes], key=lambda change: change["at_s"]),
    }


def episodes(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Alerts from their first sign to their end: those that are over in order of their end, then those that fire.

    `since_s` is when it began to fire, `at_s` when it was over, or `since_s` as long as it fires.
    """
    firing: dict[str, Event] = {}
    over = []
    for event in events:
        if event.text == "firing":
            firing.setdefault(event.subject, event)
        elif event.text == "resolved" and (began := firing.pop(event.subject, event)):
            over.append(_episode("resolved", began, event))
    return [*over, *(_episode("firing", event, event) for event in firing.values())]


def budget(period: tuple[int, int], recent: tuple[int, int], objective: Objective) -> dict[str, Any]:
    """Share left, burn rate of the last hour, and seconds until nothing is left (None: it will last)."""
    (good, total), (good_now, total_now) = period, recent
    remaining = 1 - (total - good) / (objective.budget * total) if total else 1.0
    burn = (total_now - good_now) / (objective.budget * total_now) if total_now else 0.0
    exhaustion_s = max(0.0, remaining) * PERIOD_S / burn if burn > 1 else None
    return {"remaining": remaining, "burn": burn, "exhaustion_s": exhaustion_s, "period_s": None}


def span(seconds: int, step_s: int, now_s: float) -> tuple[float, float]:
    """Whole steps that cover the last `seconds`, the step under way included."""
    under_way_s = now_s // step_s * step_s
    return under_way_s - seconds, under_way_s + step_s


def step_for(seconds: int, finest_s: int) -> int:
    """The finest step, or a multiple of it, that gives at most `MOST_POINTS` points."""
    fitting = (finest_s * times for times in MULTIPLES if seconds <= finest_s * times * MOST_POINTS)
    return next(fitting, finest_s * MULTIPLES[-1])


def _episode(state: str, began: Event, last: Event) -> dict[str, Any]:
    return {"state": state, "subject": last.subject, "since_s": began.at_s, "at_s": last.at_s, "values": last.data}


def _share(seconds: int, counts: tuple[int, int]) -> dict[str, int]:
    return {"seconds": seconds, "good": counts[0], "total": counts[1]}


def _point(point: Point) -> dict[str, Any]:
    answered = point.answered
    return {
        "t_s": point.start_s,
        "total": point.total,
        "good": point.good,
        "failed": point.total - answered.total,
        "rejected": point.refused,
        "in_flight": point.in_flight,
        "p50_ms": _ms(answered.quantile_s(0.50)),
        "p95_ms": _ms(answered.quantile_s(0.95)),
    }


def _slot(slot: Slot) -> dict[str, Any]:
    answered = slot.answered
    return {
        "t_s": slot.start_s,
        "total": slot.total,
        "good": slot.good,
        "failed": slot.failed,
        "rejected": None,
        "in_flight": None,
        "p50_ms": _ms(answered.quantile(0.50)),
        "p95_ms": _ms(answered.quantile(0.95)),
    }


def _ms(seconds: float | None) -> float | None:
    """Milliseconds; None for nothing, and for what no edge bounds."""
    return round(seconds * 1000, 3) if seconds is not None and 0 <= seconds < float("inf") else None
