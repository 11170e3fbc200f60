"""
One round of the watch: store what was counted, judge it, decide what to tell.

The order makes a kill at any point harmless. Counts are committed first, then what was concluded: since when each alert
holds. A message is handed over (`enqueue`, durable and idempotent by event id) before the state that says it was told:
killed in between, the next round tells it again under the same id, and the outbox knows it already. No I/O but the
store's; the clock is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slo.errors import StoreError
from slo.watch.alerting.alerts import Alert, AlertChange, step
from slo.watch.alerting.grouping import TIERS, Group, GroupMember, Notice, Tier, covered, endings, notices, tier
from slo.watch.alerting.round import Round, Settings, labels_of
from slo.watch.alerting.rules import Condition, Rule, check_names
from slo.watch.budget.budget import Budget, day_left_s
from slo.watch.checkpoint import KEY, ClockCheck, load_checkpoint, next_slot
from slo.watch.history.buffered import BufferedHistory
from slo.watch.history.compaction import compact
from slo.watch.history.event_log import HistoryEvent, maintenance, silences, write
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Minute, Slices
from slo.watch.model.objectives import Goal
from slo.watch.model.silences import Maintenance, Silence, covering, muted_by

COMPACT_EVERY_S = 3600
DAMAGE_TOLD_S = 900  # how long the alert on a damaged history goes on


class Evaluator:
    """The watch of one model at one endpoint. `enqueue(round, notice, event_id)` hands a message over, durably."""

    def __init__(self, store: Store, settings: Settings, *, enqueue: Callable[[Round, Notice, str], None]) -> None:
        self.settings = settings
        self.history = BufferedHistory(store, settings.goals)
        self._store = store
        self._enqueue = enqueue
        self._rules = settings.rulebook.rules
        check_names(self._rules)
        self._state = load_checkpoint(store)
        self._agreement = ClockCheck(self._state.believed_s)
        self._unsaved = ""  # why the last round's conclusions could not be written

    def slot_s(self, now_s: float) -> int:
        """Start of the slice that a round at `now_s` closes: where its counts belong."""
        return next_slot(now_s, self._state.last_slot_s, self.settings.interval_s)

    def round(
        self,
        minutes: Sequence[Minute],
        now_s: float,
        *,
        evidence: Mapping[str, Any] | None = None,
        remember: Mapping[str, Mapping[str, Any]] | None = None,
        failed_action: bool = False,
        monotonic_s: float | None = None,
    ) -> Round:
        """Take in a round's slices and judge. `remember` are states of others, kept together with the counts.

        What is old is thrown away only while the wall clock keeps pace with `monotonic_s`, see `wall_clock`. Never
        raises for a store that fails: that is `Round.problem`, and an alert.
        """
        settings, state = self.settings, self._state
        slot_s = state.last_slot_s = self.slot_s(now_s)
        end_s = slot_s + settings.interval_s
        excuse, quiet = self._agreements(now_s, slot_s, end_s)
        believed = self._agreement.look(now_s, now_s if monotonic_s is None else monotonic_s)
        state.believed_s = self._agreement.believed_s
        self._keep(minutes, slot_s, excuse, evidence, remember)
        if self.history.renewed or state.unreadable:
            self._tell_of_damage(now_s)
        judged = settings.goals[0]  # requests that the main promise cannot be held against are no data
        if any((minute.counts(judged) or Counts()).total for minute in minutes) or state.last_data_s is None:
            state.last_data_s = now_s
        state.last_data_s = min(state.last_data_s, now_s)  # the wall clock may have gone back

        windows = {goal.name: self.history.counts(goal, end_s - settings.window_s, end_s) for goal in settings.goals}
        age_s = end_s - self._since_s(slot_s)
        budgets = tuple(self._budget(goal, end_s, now_s, age_s) for goal in settings.goals)
        silent_s = now_s - state.last_data_s
        readings = settings.rulebook.readings(
            counts=lambda goal, length_s: self.history.counts(goal, end_s - length_s, end_s),
            budgets=budgets,
            silent_s=None if excuse else silent_s,
            store_problem=bool(self.history.problem or self._unsaved) or self._lately_renewed(now_s),
            failed_action=failed_action,
            age_s=age_s,
        )
        changes = self._step(readings, now_s)
        eased = {goal.name for goal in settings.goals if self._met(goal, slot_s, end_s)}
        entries = [
            GroupMember(
                rule,
                state.alerts[rule.key],
                muted=excuse is not None or self._muted(rule, quiet, now_s),
                eased=rule.goal in eased,
            )
            for rule in self._rules
        ]
        told, groups, hidden = self._tell(entries, now_s)
        histogram, failed = self.history.latencies(end_s - settings.window_s, end_s)
        result = Round(
            at_s=now_s,
            slot_s=slot_s,
            windows=windows,
            budgets=budgets,
            histogram=histogram,
            failed=failed,
            window_s=settings.window_s,
            sources=self.history.sources(end_s - settings.window_s, end_s),
            alerts=dict(state.alerts),
            rules={rule.key: rule for rule in self._rules},
            changes=changes,
            notices=told,
            suppressed=dict.fromkeys(hidden, "covered") | {entry.rule.key: "muted" for entry in entries if entry.muted},
            maintenance=excuse,
            problem=self.history.problem or self._unsaved,
        )
        if not told:
            state.groups = groups
        kept = self._remember(result, windows, silent_s, purge=believed)
        for name, notice in told:
            self._enqueue(result, notice, self._event_id(name, notice, None if kept else slot_s))
        if told:
            state.groups = groups
            self._remember_told()
        return result

    def _event_id(self, name: Tier, notice: Notice, unkept_slot_s: int | None) -> str:
        """The message's identity: the same when a round is repeated after a kill, and of no other message.

        Sequence and start alone would name two messages alike once a restart has forgotten what could not be kept: such
        rounds name themselves as well, since nobody will repeat them.
        """
        parts = [self._state.instance, name, str(notice.sequence), notice.kind, str(round(notice.started_s))]
        return "-".join(parts if unkept_slot_s is None else [*parts, str(unkept_slot_s)])

    def _agreements(self, now_s: float, start_s: float, end_s: float) -> tuple[Maintenance | None, list[Silence]]:
        try:
            return covering(maintenance(self._store, start_s), start_s, end_s), silences(self._store, now_s)
        except StoreError:
            # Unreadable agreements silence nobody: better a needless message than a missing one. The failure itself
            # is reported by the reads of the history that follow.
            return None, []

    def _muted(self, rule: Rule, quiet: Sequence[Silence], now_s: float) -> bool:
        return muted_by(quiet, labels_of(rule, self.settings.labels), now_s) is not None

    def _keep(
        self,
        minutes: Sequence[Minute],
        slot_s: int,
        excuse: Maintenance | None,
        evidence: Mapping[str, Any] | None,
        remember: Mapping[str, Mapping[str, Any]] | None,
    ) -> None:
        """Counts first, and with them what says up to where they were counted."""

        def also() -> None:
            if evidence:
                self._store.put_evidence(slot_s, evidence)
            for key, value in (remember or {}).items():
                self._store.put_state(key, value)

        self.history.add(minutes, maintenance=excuse is not None, also=also)

    def _budget(self, goal: Goal, end_s: float, now_s: float, age_s: float) -> Budget:
        settings, history = self.settings, self.history
        start_s, _ = settings.period.bounds(end_s)
        day = history.counts(goal, end_s - 86400, end_s)
        try:
            slices = self._store.slices(goal, start_s, end_s)
        except StoreError as error:
            history.problem, slices = history.problem or str(error), Slices()
        return Budget(
            goal=goal,
            period=settings.period,
            counts=history.counts(goal, start_s, end_s),
            with_maintenance=history.counts(goal, start_s, end_s, with_maintenance=True),
            recent=history.counts(goal, end_s - 3600, end_s),
            slices=slices,
            observed_s=min(age_s, end_s - start_s),
            expected_today=day.total * day_left_s(now_s, settings.period.zone) / 86400,
        )

    def _met(self, goal: Goal, start_s: float, end_s: float) -> bool:
        """Was the goal met in this slice alone? Not without requests: nobody knows then."""
        counts = self.history.counts(goal, start_s, end_s)
        return counts.total > 0 and counts.bad <= goal.budget * counts.total + 1e-9

    def _since_s(self, slot_s: int) -> float:
        """When the history begins."""
        try:
            first_s = self._store.first_minute_s()
        except StoreError as error:
            self.history.problem, first_s = self.history.problem or str(error), None
        return slot_s if first_s is None else first_s

    def _step(self, readings: Mapping[str, Condition], now_s: float) -> tuple[tuple[Rule, AlertChange], ...]:
        changes = []
        for rule in self._rules:
            alert, change = step(self._state.alerts.get(rule.key, Alert()), rule, readings[rule.key], now_s)
            self._state.alerts[rule.key] = alert
            if change is not None:
                changes.append((rule, change))
        return tuple(changes)

    def _tell(
        self, entries: Sequence[GroupMember], now_s: float
    ) -> tuple[tuple[tuple[Tier, Notice], ...], dict[Tier, Group], frozenset[str]]:
        """What to tell, what the groups are once it is told, and the keys of the alerts that others cover."""
        state, policy = self._state, self.settings.policy
        state.ended = endings(state.ended, entries, now_s)
        hidden = covered(entries, state.ended, now_s, policy)
        told: list[tuple[Tier, Notice]] = []
        groups: dict[Tier, Group] = {}
        for name in TIERS:
            members = [entry for entry in entries if tier(entry.rule.severity) == name]
            groups[name], notice = notices(state.groups[name], members, now_s, policy, covered=hidden)
            if notice is not None:
                told.append((name, notice))
        return tuple(told), groups, hidden

    def _tell_of_damage(self, now_s: float) -> None:
        """The alert goes on for a while, and its message has this line."""
        text = f"was damaged, and is set aside as {self._store.set_aside}; counts that could be read are kept"
        if not self.history.renewed:
            text = "held a state of the watch that could not be read: alerts begin anew"
        self.history.renewed, self._state.unreadable, self._state.renewed_s = False, False, now_s
        try:
            write(self._store, HistoryEvent(at_s=now_s, kind="note", subject=self._store.path.name, text=text))
        except StoreError as error:
            self._unsaved = str(error)

    def _lately_renewed(self, now_s: float) -> bool:
        return self._state.renewed_s is not None and 0 <= now_s - self._state.renewed_s < DAMAGE_TOLD_S

    def _remember(self, result: Round, windows: Mapping[str, Counts], silent_s: float, *, purge: bool) -> bool:
        """Verdicts on the windows, history, state, and whether they were kept; now and then, make old rows coarser."""
        state, settings = self._state, self.settings
        try:
            with self._store.transaction():
                for goal in settings.goals:
                    verdict = judge_window(windows[goal.name], goal, forgiven=silent_s <= settings.bad_after_s)
                    self._store.record_slice(
                        goal, result.slot_s, verdict, length_s=settings.interval_s,
                        maintenance=result.maintenance is not None,
                    )  # fmt: skip
                for rule, change in result.changes:
                    write(self._store, HistoryEvent(
                        at_s=result.at_s, kind="alert", subject=rule.key, text=change.value,
                        data=state.alerts[rule.key].values,
                    ))  # fmt: skip
                self._store.put_state(KEY, state.to_json())
        except StoreError as error:
            # The next round tries again, and raises the alert.
            self._unsaved = str(error)
            return False
        self._unsaved = ""
        try:
            if purge and not 0 <= result.at_s - state.compacted_s < COMPACT_EVERY_S:
                compact(self._store, result.at_s, settings.retention)
                state.compacted_s = result.at_s
        except StoreError as error:
            self._unsaved = str(error)
        return True

    def _remember_told(self) -> None:
        try:
            self._store.put_state(KEY, self._state.to_json())
        except StoreError as error:
            self._unsaved = str(error)


def judge_window(counts: Counts, goal: Goal, *, forgiven: bool) -> Slices:
    """Was the goal met in the window? Unknown without requests, and bad once that lasts too long to be forgiven."""
    if counts.total == 0:
        return Slices(unknown=1) if forgiven else Slices(bad=1)
    met = counts.bad <= goal.budget * counts.total + 1e-9
    return Slices(good=1) if met else Slices(bad=1)
