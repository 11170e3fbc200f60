"""
Which automatic remedies there are, and when each is the right one; pure. Carrying them out: `remediation.py`.

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
turns them on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from slo.stats import wilson
from slo.watch.alerting.rules import BURN_ALERTS, Rule
from slo.watch.sli.counts import Counts

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
class Limits:
    """Bounds on automatic remedies. `settle_s` is how long one is given before it is judged."""

    cool_down_s: float = 600.0
    per_hour: int = 3
    settle_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
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
    wanted: Iterable[Remedy], enabled: Mapping[Remedy, bool], past: Iterable[Attempt], now_s: float, limits: Limits
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
