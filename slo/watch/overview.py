"""The budgets as of now, for who only reads: `slo budget`, reports, pages."""

from __future__ import annotations

from slo.watch.alerting.round import Settings
from slo.watch.budget.budget import Budget, day_left_s
from slo.watch.history.store import Store


def budgets_now(store: Store, settings: Settings, now_s: float) -> tuple[Budget, ...]:
    """One budget per goal, up to the last whole slice. Raises `StoreError` for an unreadable history."""
    last_s = store.last_minute_s()
    end_s = now_s if last_s is None else min(now_s, last_s + settings.interval_s)
    start_s, _ = settings.period.bounds(end_s)
    first_s = store.first_minute_s()
    return tuple(
        Budget(
            goal=goal,
            period=settings.period,
            counts=store.counts(goal.event, start_s, end_s),
            with_maintenance=store.counts(goal.event, start_s, end_s, with_maintenance=True),
            recent=store.counts(goal.event, end_s - 3600, end_s),
            slices=store.slices(goal, start_s, end_s),
            observed_s=0.0 if first_s is None else min(end_s - first_s, end_s - start_s),
            expected_today=store.counts(goal.event, end_s - 86400, end_s).total
            * day_left_s(now_s, settings.period.zone)
            / 86400,
        )
        for goal in settings.goals
    )
