"""What the watcher's history holds of the last days, as the plain data that a period report is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable

from slo.cli.options import Context
from slo.report.period import Change, Incident, Period, Slot
from slo.stats import Histogram
from slo.watch.history import event_log
from slo.watch.history.event_log import HistoryEvent
from slo.watch.history.store import Store
from slo.watch.model.counts import Minute
from slo.watch.wiring import history_path, settings_of

HOUR_S, DAY_S = 3600, 86_400
HOURLY_UP_TO_S = 3 * DAY_S


def period_of(ctx: Context, length_s: float, now_s: float) -> Period:
    """The last `length_s` of the latency goal. Raises `StoreError` where there is no history."""
    settings = settings_of(ctx.config)
    goal = next(goal for goal in settings.goals if goal.kind == "latency")
    slot_s = HOUR_S if length_s <= HOURLY_UP_TO_S else DAY_S
    start_s = math.floor((now_s - length_s) / slot_s) * slot_s
    with Store(history_path(ctx.config), read_only=True) as store:
        slots = []
        for begin in range(start_s, math.ceil(now_s), slot_s):
            counts = store.counts(goal.event, begin, begin + slot_s)
            p95_ms = _p95_ms(store.minutes(begin, begin + slot_s))
            slots.append(Slot(start_s=begin, good=counts.good, total=counts.total, p95_ms=p95_ms))
        everything = store.counts(goal.event, start_s, now_s, with_maintenance=True)
        slices = store.slices(goal, start_s, now_s)
        alerts = event_log.read(store, "alert", start_s)
        done = [event for kind in ("change", "action") for event in event_log.read(store, kind, start_s)]
    return Period(
        model=ctx.config.model.name,
        objective=ctx.config.slo,
        start_s=start_s,
        end_s=now_s,
        slots=slots,
        slot_s=slot_s,
        slices=(slices.good, slices.bad, slices.unknown),
        excused=everything.total - sum(slot.total for slot in slots),
        incidents=incidents(alerts),
        changes=[_change(event) for event in sorted(done, key=lambda event: event.at_s)],
    )


def incidents(alerts: Iterable[HistoryEvent]) -> list[Incident]:
    """Alerts that fired, each with the resolution that followed it; oldest first."""
    found: list[Incident] = []
    firing: dict[str, HistoryEvent] = {}
    for event in alerts:
        if event.text == "firing":
            firing.setdefault(event.subject, event)
        elif event.text == "resolved" and event.subject in firing:
            began = firing.pop(event.subject)
            found.append(Incident(alert=event.subject, started_s=began.at_s, ended_s=event.at_s))
    found += [Incident(alert=event.subject, started_s=event.at_s, ended_s=None) for event in firing.values()]
    return sorted(found, key=lambda incident: incident.started_s)


def _p95_ms(minutes: Iterable[Minute]) -> float:
    """Of the answered requests; of those counted by the newest edges, where these were changed."""
    rows = list(minutes)
    if not rows:
        return math.nan
    total = Histogram(rows[-1].histogram.edges_s)
    for row in rows:
        if row.histogram.edges_s == total.edges_s:
            total.add(row.histogram)
    return total.quantile(0.95) * 1000


def _change(event: HistoryEvent) -> Change:
    text = f"{event.subject}: {event.text}" if event.text else event.subject
    return Change(at_s=event.at_s, text=text, author=event.author)
