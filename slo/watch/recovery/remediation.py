"""
Carrying out remedies: one at a time, bounded, recorded, judged, and undone where they did not help.

How a remedy is done is not known here: executors are passed in (`slo.cli` wires those of `slo.deploy`). An executor
returns how to undo it, or None. Everything is written to the history as an `action`, a dry run included, so that the
message of an alert can say what was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slo.errors import SloError, StoreError
from slo.watch.history.chronicle import Event, read, write
from slo.watch.history.store import Store
from slo.watch.recovery.remedies import (
    REMEDIES,
    Attempt,
    Effect,
    Limits,
    Remedy,
    Situation,
    effect,
    indicated,
    permitted,
)
from slo.watch.sli.counts import Counts

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
        limits: Limits,
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

    def _past(self, now_s: float) -> list[Attempt]:
        return [
            Attempt(remedy=remedy, at_s=event.at_s)
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
                Event(at_s=now_s, kind="action", subject=remedy, text=text, data={"carried_out": carried_out}),
            )
        except StoreError as error:
            self._report(f"action {remedy}: not recorded: {error.message}")
            return False
        return True


def _share(counts: Counts) -> str:
    return f"{counts.bad}/{counts.total}"
