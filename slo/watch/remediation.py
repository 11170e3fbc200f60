"""
Automatic remedies: which there are, when each is the right one, and carrying them out, bounded, judged and undone.

================== ======================================= ==================================================
remedy             precondition                            undone, when it did not help, by
================== ======================================= ==================================================
relaunch_model     server answers, the model is gone, two  nothing: a running model is the state that was meant
                   rounds in a row (Xinference may bring
                   it back by itself in the first)
restart_server     nothing answers, three rounds in a row  nothing
add_replica        latency burns, CPU has room             removing the replica
shed               latency burns, admission only queues    queueing again
clear_cache        wrong vectors come back                 nothing: a cache fills by itself
================== ======================================= ==================================================

Relaunching a dead model is on by default, since nothing can be worse than no model; all others are off until somebody
turns them on. One at a time. How a remedy is done is not known here: executors are passed in (`slo.cli` wires those of
`slo.deploy`). An executor returns how to undo it, or None. Everything is written to the history as an `action`, a dry
run included, so that the message of an alert can say what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from slo.errors import SloError, StoreError
from slo.stats import wilson
from slo.watch.alerting.rules import BURN_ALERTS, Rule
from slo.watch.history.event_log import HistoryEvent, read, write
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts

Remedy = Literal["relaunch_model", "restart_server", "add_replica", "shed", "clear_cache"]
REMEDIES: tuple[Remedy, ...] = ("relaunch_model", "restart_server", "add_replica", "shed", "clear_cache")
ROUNDS_DOWN = 3
ROUNDS_GONE = 2
CPU_ROOM = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a remedy's precondition may look at.

    `server_up` and `model_up` are None where nobody could tell; `rounds_down` and `rounds_gone` count the rounds in a
    row in which server and model were not. `cpu_busy` is a share. `queueing` says whether
    admission queues instead of shedding.
    """

    firing: tuple[Rule, ...] = ()
    server_up: bool | None = None
    model_up: bool | None = None
    rounds_down: int = 0
    rounds_gone: int = 0
    cpu_busy: float | None = None
    queueing: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemedyLimits:
    """Bounds on automatic remedies. `settle_s` is how long one is given before it is judged."""

    cool_down_s: float = 600.0
    per_hour: int = 3
    settle_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAction:
    """One remedy that was carried out (or, in a dry run, would have been)."""

    remedy: Remedy
    at_s: float


def indicated(situation: Situation) -> list[Remedy]:
    """Remedies whose precondition holds, the mildest first."""
    burning = {rule.alert for rule in situation.firing if rule.severity in ("critical", "page")}
    found: list[Remedy] = []
    if situation.server_up and situation.model_up is False and situation.rounds_gone >= ROUNDS_GONE:
        found.append("relaunch_model")
    if situation.server_up is False and situation.rounds_down >= ROUNDS_DOWN:
        found.append("restart_server")
    if situation.model_up and BURN_ALERTS["correctness"] in burning:
        found.append("clear_cache")
    if situation.model_up and BURN_ALERTS["latency"] in burning:
        if situation.queueing:
            found.append("shed")
        if situation.cpu_busy is not None and situation.cpu_busy < CPU_ROOM:
            found.append("add_replica")
    return found


def permitted(
    wanted: Iterable[Remedy],
    enabled: Mapping[Remedy, bool],
    past: Iterable[PastAction],
    now_s: float,
    limits: RemedyLimits,
) -> tuple[Remedy | None, str]:
    """The one remedy to carry out now; with None, why not. One at a time, so that its effect can be told."""
    history = [attempt for attempt in past if 0 <= now_s - attempt.at_s < 3600]
    reasons = []
    for remedy in wanted:
        if not enabled.get(remedy, False):
            reasons.append(f"{remedy} is off")
        elif any(now_s - attempt.at_s < limits.settle_s for attempt in history):
            reasons.append(f"{remedy} waits for the verdict on the one before")
        elif any(attempt.remedy == remedy and now_s - attempt.at_s < limits.cool_down_s for attempt in history):
            reasons.append(f"{remedy} cools down")
        elif len(history) >= limits.per_hour:
            reasons.append(f"{remedy} would be more than {limits.per_hour} an hour")
        else:
            return remedy, ""
    return None, "; ".join(reasons)


Effect = Literal["better", "same", "worse", "unknown"]


def effect(before: Counts, after: Counts, *, z: float = 1.645) -> Effect:
    """Did the bad ratio change beyond chance? By Wilson intervals that do not overlap; unknown on under 20 requests.

    Nothing before and something after is better: a dead model answers again.
    """
    if after.total < 20:
        return "unknown"
    if before.total == 0:
        return "better" if after.good else "same"
    low_before, high_before = wilson(before.bad, before.total, z)
    low_after, high_after = wilson(after.bad, after.total, z)
    if high_after < low_before:
        return "better"
    return "worse" if low_after > high_before else "same"


Undo = Callable[[], None]
Executor = Callable[[], Undo | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A remedy that waits for its verdict. `undo` is None where there is nothing to undo, and after a restart."""

    remedy: Remedy
    at_s: float
    before: Counts
    undo: Undo | None


class Remediator:
    """Decides once a round; `executors` lacks what cannot be done here, and such a remedy is then off."""

    def __init__(
        self,
        store: Store,
        executors: Mapping[Remedy, Executor],
        *,
        enabled: Mapping[Remedy, bool],
        limits: RemedyLimits,
        dry_run: bool = False,
        report: Callable[[str], None],
    ) -> None:
        self._store = store
        self._executors = executors
        self._enabled = {remedy: enabled.get(remedy, False) and remedy in executors for remedy in REMEDIES}
        self._limits = limits
        self._dry_run = dry_run
        self._report = report
        self._open: Open | None = None
        self.failed = False  # the last remedy raised, or did not help: an alert of its own

    def round(self, situation: Situation, recent: Counts, now_s: float) -> None:
        """Judge the remedy before, if its time has come; carry out the next, if one is indicated and allowed.

        `recent` are the counts of this round. Errors of an executor are recorded, never raised.
        """
        if self._open is not None:
            if now_s - self._open.at_s < self._limits.settle_s:
                return
            self._judge(self._open, recent, now_s)
        wanted = indicated(situation)
        if not wanted:
            if situation.model_up:
                self.failed = False
            return
        try:
            past = self._past(now_s)
        except StoreError as error:
            # Without the history there is no rate limit: then nothing is done, rather than anything without bounds.
            self._report(f"no automatic action, since its history cannot be read: {error.message}")
            return
        remedy, _ = permitted(wanted, self._enabled, past, now_s, self._limits)
        if remedy is not None:
            self._carry_out(remedy, recent, now_s)

    def _carry_out(self, remedy: Remedy, recent: Counts, now_s: float) -> None:
        if self._dry_run:
            self._write(remedy, "dry run: would be carried out now", now_s, carried_out=True)
            return
        # Written before it is done: a watcher that dies of its own remedy must not repeat it for ever.
        if not self._write(remedy, "started", now_s, carried_out=True):
            return
        try:
            undo = self._executors[remedy]()
        except SloError as error:
            self.failed = True
            self._write(remedy, f"failed: {error.message}", now_s)
            return
        # For what brings a dead service back, the last requests of its life are no measure.
        before = Counts() if remedy in ("relaunch_model", "restart_server") else recent
        self._open = Open(remedy=remedy, at_s=now_s, before=before, undo=undo)

    def _judge(self, done: Open, after: Counts, now_s: float) -> None:
        self._open = None
        found: Effect = effect(done.before, after)
        self.failed = found in ("same", "worse")
        self._write(
            done.remedy,
            f"{found}: bad requests {_share(done.before)} before, {_share(after)} after",
            now_s,
        )
        if not self.failed or done.undo is None:
            return
        try:
            done.undo()
        except SloError as error:
            self._write(done.remedy, f"undo failed: {error.message}", now_s)
        else:
            self._write(done.remedy, "undone", now_s)

    def _past(self, now_s: float) -> list[PastAction]:
        return [
            PastAction(remedy=remedy, at_s=event.at_s)
            for event in read(self._store, "action", now_s - 3600)
            for remedy in REMEDIES
            if event.subject == remedy and event.data.get("carried_out")
        ]

    def _write(self, remedy: Remedy, text: str, now_s: float, *, carried_out: bool = False) -> bool:
        """Record it; False when that failed, which is reported."""
        self._report(f"action {remedy}: {text}")
        try:
            write(
                self._store,
                HistoryEvent(at_s=now_s, kind="action", subject=remedy, text=text, data={"carried_out": carried_out}),
            )
        except StoreError as error:
            self._report(f"action {remedy}: not recorded: {error.message}")
            return False
        return True


def _share(counts: Counts) -> str:
    return f"{counts.bad}/{counts.total}"
