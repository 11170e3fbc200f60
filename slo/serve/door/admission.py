"""
May this request enter the queue, and in which class? A pure function of the queue's state; time is in its arguments.

    predicted finish = what is running + (everything ahead + own tokens) at the measured rate + call overhead
    in time  ⇔  time already spent + predicted finish × headroom ≤ deadline × (1 − RESERVE)

`headroom` is the measured 99th percentile of observed by predicted time, so that what is admitted keeps the promise.
`RESERVE` is for what lies outside our sight: sockets, the network, the client's own loop.

Own tokens count as no fewer than most requests have (`usual_tokens`): else, when more is offered than can be served,
every gap before the deadline would go to a short text, and long ones would hardly be let in at all.

What becomes of a request that cannot be in time is the policy:

* `defer`  it is served after those that can be, oldest first, as long as the wait predicted for it stays within
           `max_wait_s`; beyond that it is refused. It counts as late. What was admitted as in time and is overtaken
           by events is deferred as well.
* `shed`   it is refused at once; what was admitted and is overtaken is refused when its deadline passes
* `queue`  everything waits in one line

A deadline of the request's own (`X-SLO-Deadline-Ms`) is held under each policy: after it nobody wants the answer.

Two classes. *Online* requests hold the deadline, the earliest first. *Batch* requests hold none: those with more texts
than `ONLINE_TEXTS`, those that could not meet the deadline even on an idle server that is as fast as it ever was, and
those that say so (`X-SLO-Class: batch`); they run when no online text waits. `X-SLO-Deadline-Ms` makes any request
online. A server that has become slow makes no request a batch request: what it cannot do in time any more is late, and
counts. A request that finds the server idle is always admitted: refusing it would help nobody.
Of the tokens that may wait, each class counts those that go before it: a bulk job fills the queue for others of its
kind, never for online requests. A deadline longer than the usual one counts all online tokens: bounded, whatever
deadlines are asked for.

A refused caller is told when to come back (`Comeback`): each gets the time at which the work of those who were told
before it will be done, spread by ±`JITTER`. So a burst that was refused does not come back as a burst.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from slo.serve.engine.cost import Headroom, PassCost

JITTER = 0.25
LONGEST_S = 10.0  # callers who never come back must not keep the others away for long


class Comeback:
    """One model's list of promised times, of which only the last is kept."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._last_s = float("-inf")

    def after_s(self, now_s: float, wait_s: float, work_s: float) -> float:
        """Seconds until a caller should ask again, who would wait `wait_s` now and asks for `work_s`."""
        self._last_s = min(max(self._last_s, now_s + wait_s) + work_s, now_s + LONGEST_S)
        return (self._last_s - now_s) * self._chance.uniform(1 - JITTER, 1 + JITTER)


ONLINE_TEXTS = 16
RESERVE = 0.07
FAIR_SHARE = 0.1  # of the deadline: what a short request leaves free for a longer one, at most
Policy = Literal["defer", "shed", "queue"]
POLICIES: tuple[Policy, ...] = ("defer", "shed", "queue")
Refusal = Literal["queue_full", "overloaded"]
HeadroomAt = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class QueueState:
    """Where a model's queue stands now. Tokens are estimates until the tokenizer has seen them.

    `usual_tokens`: most requests of late had so many or fewer. `before_tokens`: the online tokens that go before this
    request, None: all of them. `deferred_share`: of the engine's time, what deferred
    requests may count on; `granted_share`: what they take from the others now.
    """

    online_tokens: int
    batch_tokens: int
    running_s: float  # until a replica is free, on average over them
    replicas: int
    usual_tokens: int = 0
    before_tokens: int | None = None
    deferred_tokens: int = 0
    deferred_share: float = 1.0
    granted_share: float = 0.0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        waiting = self.online_tokens + self.deferred_tokens + self.batch_tokens
        return waiting == 0 and self.running_s <= 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request as admission sees it. `deadline_s` and `batch` are what its headers say, None if nothing."""

    texts: int
    tokens: int
    deadline_s: float | None = None
    batch: bool = False
    spent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that admission obeys."""

    policy: Policy
    deadline_s: float
    max_queue_tokens: int
    max_wait_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Decision:
    """`refused` names the reason, None when admitted.

    `target_s`: the deadline by which it is queued. `deadline_s`: the one that is enforced while it waits; None: none
    is. `timely`: it is admitted because it is predicted to be in time. `deferred`: because it may be late.
    `deferrable`: it will be deferred, not refused, once it cannot be in time.
    """

    refused: Refusal | None
    predicted_s: float
    target_s: float
    online: bool
    deadline_s: float | None = None
    timely: bool = False
    deferred: bool = False
    deferrable: bool = False


def predict(tokens_ahead: int, tokens: int, running_s: float, replicas: int, cost: PassCost, pass_tokens: int) -> float:
    """Seconds until a request of `tokens` is done, behind `tokens_ahead`, passes holding `pass_tokens` at most."""
    total = tokens_ahead + tokens
    passes = math.ceil(total / max(1, pass_tokens))
    work_s = passes * cost.call_s + total * cost.token_s
    return running_s + max(work_s / max(1, replicas), cost.of(min(tokens, pass_tokens))) + cost.overhead_s


def predict_deferred(state: QueueState, tokens: int, cost: PassCost, pass_tokens: int) -> float:
    """Seconds until a deferred request of `tokens` is done: after those in time that wait, with its class's share."""
    online = state.online_tokens if state.before_tokens is None else state.before_tokens
    ahead_s = predict(online, 0, state.running_s, state.replicas, cost, pass_tokens)
    return ahead_s + predict(state.deferred_tokens, tokens, 0.0, state.replicas, cost, pass_tokens) / max(
        0.01, state.deferred_share
    )


def sent_as_batch(texts: int, *, said: bool) -> bool:
    """Is a request of so many texts, that `said` so or not, batch work whatever the server can do?"""
    return said or texts > ONLINE_TEXTS


def decide(
    state: QueueState,
    ask: Ask,
    rules: Rules,
    *,
    cost: PassCost,
    pass_tokens: int,
    headroom_at: HeadroomAt,
    at_best_s: float | None = None,
) -> Decision:
    """Admit or refuse. `headroom_at(share of the deadline)` gives the factor for a prediction of that size.

    `at_best_s`: what the request would take alone, the server being as fast as it ever was; None while that is unknown.
    """
    deadline_s = ask.deadline_s if ask.deadline_s is not None else rules.deadline_s
    if at_best_s is None:
        at_best_s = predict(0, ask.tokens, 0.0, state.replicas, cost, pass_tokens)
    batch = ask.deadline_s is None and (
        sent_as_batch(ask.texts, said=ask.batch) or at_best_s * Headroom.FIRST > deadline_s
    )
    waiting = state.online_tokens + state.deferred_tokens + (state.batch_tokens if batch else 0)
    ahead = waiting if batch else state.online_tokens if state.before_tokens is None else state.before_tokens
    predicted_s = predict(ahead, ask.tokens, state.running_s, state.replicas, cost, pass_tokens)
    answer = Decision(None, predicted_s, deadline_s, not batch)
    if state.idle:
        longer = ask.deadline_s is not None and deadline_s > rules.deadline_s  # it may take longer than others may
        return replace(answer, deadline_s=deadline_s) if longer else answer
    if (ahead if deadline_s <= rules.deadline_s else waiting) + ask.tokens > rules.max_queue_tokens:
        return replace(answer, refused="queue_full")
    if batch or (rules.policy == "queue" and ask.deadline_s is None):
        return answer
    room = max(ask.tokens, min(state.usual_tokens, int(FAIR_SHARE * deadline_s / cost.token_s)))
    needed_s = predict(int(ahead / (1 - state.granted_share)), room, state.running_s, state.replicas, cost, pass_tokens)
    deferrable = rules.policy == "defer" and ask.deadline_s is None
    late = _late(needed_s, deadline_s * (1 - RESERVE) - ask.spent_s, headroom_at)
    if not deferrable:
        return replace(answer, refused="overloaded" if late else None, timely=not late, deadline_s=deadline_s)
    if not late:
        return replace(answer, timely=True, deferrable=True)
    wait_s = predict_deferred(state, ask.tokens, cost, pass_tokens)
    full = ahead + state.deferred_tokens + ask.tokens > rules.max_queue_tokens
    refused: Refusal | None = "queue_full" if full else "overloaded" if wait_s > rules.max_wait_s else None
    return replace(answer, refused=refused, predicted_s=wait_s, deferred=True)


def _late(predicted_s: float, allowed_s: float, headroom_at: HeadroomAt) -> bool:
    return allowed_s <= 0 or predicted_s * headroom_at(predicted_s / allowed_s) > allowed_s
