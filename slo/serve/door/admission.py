"""
May this request enter the queue? A pure function of the queue's state; time is in its arguments.

    predicted finish = what is running + (everything ahead + own tokens) at the measured rate + call overhead
    admitted  ⇔  time already spent + predicted finish × headroom ≤ deadline × (1 − RESERVE)

`headroom` is the measured 99th percentile of observed by predicted time, so that what is admitted keeps the promise.
`RESERVE` is for what lies outside our sight: sockets, the network, the client's own loop.

Own tokens count as no fewer than most requests have (`usual_tokens`): else, when more is offered than can be served,
every gap before the deadline would go to a short text, and long ones would hardly be let in at all.

Two classes. *Online* requests hold the deadline. *Batch* requests hold none: those with more texts than
`ONLINE_TEXTS`, those that could not meet the deadline even on an idle server that is as fast as it ever was, and those
that say so (`X-SLO-Class: batch`); they run when no online text waits. `X-SLO-Deadline-Ms` makes any request online.
A server that has become slow makes no request a batch request: what it cannot do in time any more is late, and counts.
A request that finds the server idle is always admitted: refusing it would help nobody.
Of the tokens that may wait, each class counts those that go before it: a bulk job fills the queue for others of its
kind, never for online requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from slo.serve.door.cost import Headroom, PassCost

ONLINE_TEXTS = 16
RESERVE = 0.07
FAIR_SHARE = 0.1  # of the deadline: what a short request leaves free for a longer one, at most
Policy = Literal["shed", "queue"]
HeadroomAt = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class QueueState:
    """Where a model's queue stands now. Tokens are estimates until the tokenizer has seen them.

    `usual_tokens`: most requests of late had so many or fewer.
    """

    online_tokens: int
    batch_tokens: int
    running_s: float  # until a replica is free, on average over them
    replicas: int
    usual_tokens: int = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return self.online_tokens == 0 and self.batch_tokens == 0 and self.running_s <= 0


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


@dataclass(frozen=True, slots=True)
class Decision:
    """`refused` names the reason, None when admitted. `deadline_s` is enforced while queued; None: no deadline."""

    refused: Literal["queue_full", "overloaded"] | None
    predicted_s: float
    deadline_s: float | None
    online: bool


def predict(tokens_ahead: int, tokens: int, running_s: float, replicas: int, cost: PassCost, pass_tokens: int) -> float:
    """Seconds until a request of `tokens` is done, behind `tokens_ahead`, passes holding `pass_tokens` at most."""
    total = tokens_ahead + tokens
    passes = math.ceil(total / max(1, pass_tokens))
    work_s = passes * cost.call_s + total * cost.token_s
    return running_s + max(work_s / max(1, replicas), cost.of(min(tokens, pass_tokens))) + cost.overhead_s


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
    ahead = state.online_tokens + (state.batch_tokens if batch else 0)
    predicted_s = predict(ahead, ask.tokens, state.running_s, state.replicas, cost, pass_tokens)
    if state.idle:
        return Decision(None, predicted_s, None, not batch)
    if ahead + ask.tokens > rules.max_queue_tokens:
        return Decision("queue_full", predicted_s, None, not batch)
    if batch:
        return Decision(None, predicted_s, None, False)
    if rules.policy == "queue" and ask.deadline_s is None:
        return Decision(None, predicted_s, None, True)
    room = max(ask.tokens, min(state.usual_tokens, int(FAIR_SHARE * deadline_s / cost.token_s)))
    needed_s = predict(ahead, room, state.running_s, state.replicas, cost, pass_tokens)
    if _late(needed_s, deadline_s * (1 - RESERVE) - ask.spent_s, headroom_at):
        return Decision("overloaded", predicted_s, deadline_s, True)
    return Decision(None, predicted_s, deadline_s, True)


def _late(predicted_s: float, allowed_s: float, headroom_at: HeadroomAt) -> bool:
    return allowed_s <= 0 or predicted_s * headroom_at(predicted_s / allowed_s) > allowed_s
