"""
One round of `slo watch`, from measuring to telling: sources → engine → outbox → remedies → heartbeat.

Everything that talks to the outside is passed in. A round never raises for a service, a disk or a channel that
fails; each is a result, and the next round comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from slo.clock import Clock
from slo.errors import StoreError
from slo.objective import Objective
from slo.watch.alerting.diagnosis import causes, evidence_of
from slo.watch.alerting.grouping import Notice
from slo.watch.alerting.message import Circumstances, compose
from slo.watch.alerting.round import Round, Settings
from slo.watch.alerting.symptoms import Worst, worst_of
from slo.watch.alerting.words import zone_of
from slo.watch.evaluator import Evaluator
from slo.watch.heartbeat import Heartbeat
from slo.watch.history.event_log import read
from slo.watch.history.store import Store
from slo.watch.model.counts import Minute
from slo.watch.model.notification import Notification
from slo.watch.model.objectives import Goal
from slo.watch.remediation import Remediator, Situation
from slo.watch.server_health import CpuTime, ServerHealth, cpu_time
from slo.watch.sli.probe import ProbeTally, _add_users, _failures, minutes_of_probes
from slo.watch.sli.sources import Collected, needs_probes

HOUR, DAY = 3600, 86400
BREACH_ROUNDS = 2  # whose evidence is compared with the usual


class Source(Protocol):
    """Counts that somebody else keeps; `slo.watch.sli.sources`."""

    def collect(self, start_s: int) -> Collected: ...

    def state(self) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Outside:
    """All that a round needs of the world. `probe` gives what has come of the probes; `health` asks the server.

    `pace(full)` says how many probes the next round needs, `serving` is told which weights the server says it has,
    `memories` are states to be kept with the counts, by name.
    `hand_over` takes a message for delivery, durably; `deliver` sends what is due; `delivering` says whether it does.
    """

    source: Source | None
    probe: Callable[[], ProbeTally]
    health: Callable[[], ServerHealth]
    hand_over: Callable[[Notification], None]
    deliver: Callable[[], None]
    complain: Callable[[str], None]
    cpu: Callable[[], CpuTime | None] = cpu_time
    delivering: Callable[[], bool] = lambda: True
    pace: Callable[[bool], None] = lambda _full: None
    serving: Callable[[str], None] = lambda _weights: None
    memories: Callable[[], Mapping[str, Mapping[str, Any]]] = dict


class Watcher:
    """The rounds of one watch. `thin` requests per window are enough to do without probes.

    `runbook` and `page` are the addresses that messages link to.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        outside: Outside,
        *,
        clock: Clock,
        thin: int,
        runbook: str,
        page: str = "",
        remediator: Remediator | None = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._outside = outside
        self._clock = clock
        self._thin = thin
        self._runbook = runbook
        self._page = page
        self._remediator = remediator
        self._heartbeat = heartbeat
        self._engine = Evaluator(store, settings, enqueue=self._hand_over)
        self._cpu = outside.cpu()
        self._rounds_down = self._rounds_gone = 0
        self._now_s = clock.wall()
        self._minutes: list[Minute] = []
        self._evidence: dict[str, Any] = {}
        self._health = ServerHealth()
        self._aside = store.set_aside
        self._blind = ""  # why the source cannot judge latency, once it has been said

    @property
    def measured(self) -> dict[str, int]:
        """Requests of the round that is being measured, by source."""
        found: dict[str, int] = {}
        for minute in self._minutes:
            if minute.total:
                found[minute.source] = found.get(minute.source, 0) + minute.total
        return found

    def round(self) -> Round:
        """Measure and conclude: for who needs no line of text in between."""
        self.measure()
        return self.conclude()

    def measure(self) -> ProbeTally:
        """What users had since the last round, and probes where that is too little, as one tally for the line of text.

        Probes are looked at in any case: whether vectors are right is known from them alone. Raises `Unauthorized` or
        `ConfigError` when our own mistake prevented them; `conclude` is to be called all the same.
        """
        self._now_s = self._clock.wall()
        self._minutes, self._evidence, self._health = [], {}, ServerHealth()
        self._health = self._outside.health()
        self._outside.serving(self._health.weights)
        start_s = self._engine.slot_s(self._now_s)
        source = self._outside.source
        collected = source.collect(start_s) if source else Collected()
        self._minutes += collected.minutes
        self._evidence = dict(collected.evidence)
        self._say_blind(collected)
        probes = self._outside.probe()
        interval_s, window_s = self._settings.interval_s, self._settings.window_s
        users = collected.total - (probes.sent if collected.sees_probes else 0)
        thin = collected.blind or needs_probes(users, self._thin, interval_s=interval_s, window_s=window_s)
        self._outside.pace(thin)
        # A source that counts our probes among users' has them already, unless the server does not answer at all.
        counted = thin and not (collected.sees_probes and not collected.blind and collected.total >= probes.sent > 0)
        self._minutes += minutes_of_probes(probes, self._settings.goals, start_s, interval_s, counted=counted)
        total = probes if counted else ProbeTally(_objective_of(self._settings.goals))
        total.truncated += collected.truncated
        for minute in collected.minutes:
            _add_users(total, minute, self._settings.goals[0])
        return total

    def _say_blind(self, collected: Collected) -> None:
        """Once, as long as it goes on."""
        why = collected.problem if collected.blind else self._blind if collected.problem else ""
        if why and why != self._blind:
            self._outside.complain(why)
        self._blind = why

    def conclude(self) -> Round:
        """Judge what was measured, tell whom it concerns, repair what may be repaired."""
        source, minutes = self._outside.source, self._minutes
        self._minutes = []
        health = self._health
        if (
            health.ready is False
            and any(minute.total for minute in minutes)
            and not any(minute.histogram.total for minute in minutes)
        ):
            # In the list, and nobody gets an answer: its process died, and Xinference has not noticed.
            health = replace(health, model_up=False)
        busy, steal = self._cpu_shares()
        found = self._engine.round(
            minutes,
            self._now_s,
            evidence={**self._evidence, **_failures(minutes), "cpu_steal": steal, "uptime_s": health.uptime_s},
            remember={**({"source": source.state()} if source else {}), **self._outside.memories()},
            failed_action=self._remediator is not None and self._remediator.failed,
            monotonic_s=self._clock.monotonic(),
        )
        if self._store.set_aside != self._aside:
            self._aside = self._store.set_aside
            self._outside.complain(f"history: damaged, and set aside as {self._aside}; a new one is begun")
        self._remedy(found, health, busy)
        self._outside.deliver()
        delivering = self._outside.delivering()
        if found.problem:
            self._outside.complain(f"history: {found.problem}")
        if not delivering:
            self._outside.complain("delivery: no alert can be sent at present; no heartbeat until one can")
        if self._heartbeat and delivering and not found.problem:
            self._heartbeat.beat(self._now_s)
        return found

    def _cpu_shares(self) -> tuple[float | None, float | None]:
        before, self._cpu = self._cpu, self._outside.cpu()
        shares = self._cpu.shares_since(before) if self._cpu and before else None
        return shares if shares else (None, None)

    def _remedy(self, found: Round, health: ServerHealth, busy: float | None) -> None:
        self._rounds_down = self._rounds_down + 1 if health.server_up is False else 0
        self._rounds_gone = self._rounds_gone + 1 if health.model_up is False else 0
        if self._remediator is None or found.maintenance is not None:
            return
        situation = Situation(
            firing=found.firing,
            server_up=health.server_up,
            model_up=health.model_up,
            rounds_down=self._rounds_down,
            rounds_gone=self._rounds_gone,
            cpu_busy=busy,
            queueing=health.queueing,
        )
        # Of this round alone: the window still holds what was before the remedy.
        goal, end_s = self._settings.goals[0], found.slot_s + self._settings.interval_s
        latest = self._engine.history.counts(goal, found.slot_s, end_s)
        self._remediator.round(situation, latest, found.at_s)

    def _hand_over(self, found: Round, notice: Notice, event_id: str) -> None:
        self._outside.hand_over(compose(found, notice, self._around(found, notice), event_id=event_id))

    def _around(self, found: Round, notice: Notice) -> Circumstances:
        labels = self._settings.labels
        now_s, end_s = found.at_s, found.slot_s + self._settings.interval_s
        try:
            # The breach itself: a window of five minutes still holds good ones, and would dilute what is to be seen.
            recent = evidence_of(self._store.evidence(end_s - BREACH_ROUNDS * self._settings.interval_s, now_s))
            usual = evidence_of(self._store.evidence(now_s - DAY, found.slot_s - HOUR))
            changes = (*read(self._store, "change", now_s - HOUR), *read(self._store, "note", now_s - HOUR))
            actions = read(self._store, "action", now_s - HOUR)
            suspects = causes(recent, usual)
        except StoreError as error:
            # The message goes out without its background; that the history fails has an alert of its own.
            self._outside.complain(f"history: {error}")
            suspects, changes, actions = [], (), []
        return Circumstances(
            model=labels.get("model", ""),
            endpoint=labels.get("endpoint", ""),
            instance=labels.get("instance", ""),
            page=self._page,
            causes=suspects,
            changes=changes,
            actions=actions,
            runbook=self._runbook,
            labels=labels,
            worst=self._worst(found, notice) if notice.kind == "resolved" else None,
            zone=zone_of(self._settings.period.zone),
        )

    def _worst(self, found: Round, notice: Notice) -> Worst:
        """Of the incident that is over; from the minute in which the condition was first seen to hold."""
        goal = next((g for g in self._settings.goals if g.name == notice.rules[0].goal), None)
        interval_s = self._settings.interval_s
        return worst_of(
            self._engine.history.latencies,
            start_s=notice.started_s - interval_s,
            end_s=found.slot_s + interval_s,
            interval_s=interval_s,
            window_s=self._settings.window_s,
            quantile=goal.target if goal and goal.kind == "latency" else 0.95,
        )


def _objective_of(goals: tuple[Goal, ...]) -> Objective:
    """The latency objective, for the line of text; the default where none is watched."""
    latency = next((goal for goal in goals if goal.threshold_ms is not None), None)
    if latency is None or latency.threshold_ms is None:
        return Objective()
    return Objective(target=latency.target, threshold_ms=latency.threshold_ms)
