"""
Everything that belongs to one served model: its queue, what it has learnt about cost, and its generation in the cache.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from slo.serve.door.admission import ONLINE_TEXTS, Ask, Comeback, Decision, Policy, QueueState, Rules, decide
from slo.serve.door.batcher import Batcher
from slo.serve.door.cache import Cache, Vector
from slo.serve.door.health import Fitness, Health
from slo.serve.door.passes import Replica, ReplicaLost
from slo.serve.door.planner import Planner
from slo.serve.door.problem import invalid, not_ready, refused
from slo.serve.door.request import EmbeddingRequest
from slo.serve.engine.cost import Headroom, PassCost, TokenEstimate, UsualSize
from slo.serve.engine.encoder_files import Prompts
from slo.serve.telemetry.telemetry import PassTiming, Telemetry
from slo.settings_serve import ServeSection

ROOM_S = 2.0  # in so many seconds a queue that is full has room again


class ServedReplica(Replica, Protocol):
    """A replica with the facts that tell it from another."""

    identity: tuple[str, str]  # uid and address
    status: dict[str, Any]  # the engine's own account of itself

    async def refresh_status(self) -> None:
        """Read `status` anew. Raises `ReplicaLost`."""
        ...

    async def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        """Texts as their first `limit` tokens read. Raises `ReplicaLost`."""
        ...

    async def end_by_worker(self) -> None:
        """Have the process killed by the worker that started it. Raises `ReplicaLost`."""
        ...


class Lane:
    """One model. Created on the event loop."""

    def __init__(
        self,
        model: str,
        settings: ServeSection,
        cache: Cache,
        telemetry: Telemetry,
        new_generation: Callable[[], int],
        on_lost: Callable[[], None],
        chance: random.Random | None = None,
    ) -> None:
        self.model = model
        self.cost = PassCost()
        self.estimate = TokenEstimate()
        self.headroom = Headroom()
        self.usual = UsualSize()
        self.generation = new_generation()
        self.replicas: list[ServedReplica] = []
        self.silent: list[ServedReplica] = []  # those that count as ready and do not tell their status
        self.absent: list[ServedReplica] = []  # no longer listed as ready, and not seen to have ended
        self.health = Health(settings.patience)
        self.states: Mapping[str, str] = {}  # the host's word for each replica, those that do not serve included
        self.prompts = Prompts()
        self.guest = False  # the engine is one of Xinference's own
        self._cache = cache
        self._telemetry = telemetry
        self._new_generation = new_generation
        self._on_lost = on_lost
        self._weights: frozenset[str] | None = None
        self._most = 0  # replicas at one time
        admission = settings.admission
        wait_s = admission.longest_wait_s
        self._rules = Rules(admission.policy, admission.deadline_s, admission.max_queue_tokens, wait_s)
        self.planner = Planner(
            self.cost,
            max_tokens=settings.batch.max_tokens,
            max_items=settings.batch.max_items,
            max_wait_s=settings.batch.max_wait,
            in_flight=settings.batch.in_flight,
            deadline_s=admission.deadline_s,
            max_deferred_s=wait_s,
        )
        self._comeback = Comeback(chance or random.Random())
        self.batcher = Batcher(self.planner, self.estimate, self, telemetry.now, self.health, settings.limits.max_queue)

    @property
    def dimensions(self) -> int | None:
        """Length of a vector, when the engine says so."""
        value = next((replica.status.get("dimensions") for replica in self.replicas), None)
        return value if isinstance(value, int) else None

    @property
    def deadline_s(self) -> float:
        return self._rules.deadline_s

    async def as_computed(self, request: EmbeddingRequest) -> tuple[str, ...]:
        """The request's texts as they go to the engine: shortened to its limit, its prompt before each.

        Raises `Problem` 400 for a prompt that the model does not have, 503 when nobody answers.
        """
        try:
            prefix = self.prompts.prefix(request.prompt, request.prompt_name)
        except KeyError:
            known = ", ".join(map(repr, self.prompts.texts))
            raise invalid(f"'prompt_name' is none of this model's prompts: {known}", param="prompt_name") from None
        texts = request.texts if request.limit is None else await self._cut(request.texts, request.limit)
        return tuple([prefix + text for text in texts]) if prefix else texts

    async def _cut(self, texts: tuple[str, ...], limit: int) -> tuple[str, ...]:
        for replica in tuple(self.replicas):
            try:
                return tuple(await replica.cut(texts, limit))
            except ReplicaLost:
                continue  # the next pass that it is given finds that out, too, and tells whoever watches
        raise not_ready("no replica of the model is ready")

    def change_policy(self, policy: Policy) -> None:
        """Another policy from now on; what waits already keeps the terms under which it was admitted."""
        self._rules = replace(self._rules, policy=policy)

    def update(self, replicas: Sequence[ServedReplica], silent: Sequence[ServedReplica] = ()) -> None:
        """Serve from these. Processes known already keep their load; other weights begin a new generation.

        `silent` ones do not serve, but are looked after: they may be hung. So may those that are listed no more: the
        host itself waits for a hung process that it wants to stop.
        """
        known = {replica.identity: replica for replica in self.watched}
        self.silent = [known.get(replica.identity, replica) for replica in silent]
        listed = {replica.identity for replica in (*replicas, *silent)}
        self.absent = [replica for who, replica in known.items() if who not in listed]
        self.replicas = [known.get(replica.identity, replica) for replica in replicas]
        for replica, fresh in zip(self.replicas, replicas, strict=True):
            replica.status = fresh.status
        if self.replicas:
            self.guest = any(bool(replica.status.get("guest")) for replica in self.replicas)
        weights = frozenset(_weights(replica) for replica in self.replicas)
        if weights and weights != self._weights:
            if self._weights is not None:
                self._cache.forget(self.generation)
                self.generation = self._new_generation()
                self.cost.best.renew()
            self._weights = weights
        if len(self.replicas) > self._most:  # they share the machine: each may be slower than fewer were
            self._most = len(self.replicas)
            self.cost.best.renew()
        for replica in self.replicas:
            measured = replica.status.get("pass_ms")
            if isinstance(measured, dict):
                self.cost.assume(measured.get("fixed", 0.0) / 1000, measured.get("per_token", 0.0) / 1000)
            self.prompts = Prompts.from_json(replica.status.get("prompts"))
        limits = [replica.status.get("max_tokens") for replica in self.replicas]
        self.estimate.max_tokens = max((limit for limit in limits if isinstance(limit, int)), default=512)
        self.serve()

    @property
    def watched(self) -> list[ServedReplica]:
        """All processes that have to be looked after."""
        return [*self.replicas, *self.silent, *self.absent]

    def ended(self, replica: ServedReplica) -> None:
        """A process that does not serve has been seen to be gone."""
        self.silent = [other for other in self.silent if other is not replica]
        self.absent = [other for other in self.absent if other is not replica]

    def serve(self) -> None:
        """Hand passes to the replicas that are fit, as judged last; to those in doubt only if there are no others."""
        judged = [(replica, self.health.fitness(replica.identity)) for replica in self.replicas]
        fit = [replica for replica, fitness in judged if fitness is Fitness.FIT]
        doubted = [replica for replica, fitness in judged if fitness is Fitness.DOUBTED]
        hold = any(self.health.fitness(replica.identity) is not Fitness.DEAD for replica in self.silent) or any(
            fitness is Fitness.SILENT for _, fitness in judged
        )
        self.batcher.update(fit or doubted, wanted=self._expected(), hold=hold)

    def admit(self, ask: Ask) -> Decision:
        """Admission's answer for the queue as it is now."""
        now_s = self._telemetry.now()
        due_s = now_s - ask.spent_s + (self.deadline_s if ask.deadline_s is None else ask.deadline_s)
        if not ask.batch and ask.texts <= ONLINE_TEXTS:
            self.usual.observe(ask.tokens)
        decision = decide(
            self.queue_state(due_s), ask, self._rules, cost=self.cost, pass_tokens=self.planner.pass_tokens,
            headroom_at=lambda share: self.headroom.factor(share, now_s), at_best_s=self._at_best_s(ask),
        )  # fmt: skip
        if decision.online:
            self.planner.share.offered(self._work_s(ask.tokens), now_s)
        if decision.deferred:
            self._refuse_hopeless(now_s)
        return decision

    def _refuse_hopeless(self, now_s: float) -> None:
        """What was deferred in the hope that it would be over soon, and is not."""
        for job in self.planner.hopeless(now_s, max(1, len(self.batcher.replicas))):
            work_s = self._work_s(job.tokens)
            retry_s = self._comeback.after_s(now_s, ROOM_S, work_s)
            message = f"too many wait: no answer within {self._rules.max_wait_s:g} s"
            self._telemetry.count("rejected", "overloaded")
            self.batcher.fail([job], refused("overloaded", message, self._rules.max_wait_s, retry_s))

    def come_back_s(self, ask: Ask, decision: Decision) -> float:
        """When the caller of a request that was refused should ask again, in seconds from now."""
        wait_s = decision.predicted_s
        if decision.deferred:
            # To wait here is the policy `defer`: who comes back need find room, not an empty queue. If nobody else
            # comes meanwhile there is room as soon as what waits now is done.
            waiting_s = self._work_s(self.planner.online_tokens + self.planner.deferred_tokens)
            wait_s = min(max(0.0, wait_s + ROOM_S - self._rules.max_wait_s), self.batcher.running_s() + waiting_s)
        return self._comeback.after_s(self._telemetry.now(), wait_s, self._work_s(ask.tokens))

    def _work_s(self, tokens: int) -> float:
        return self.planner.work_s(tokens) / max(1, len(self.batcher.replicas))

    def _at_best_s(self, ask: Ask) -> float | None:
        # Replicas that should be there and are not make no batch request either. One text cannot be spread.
        spread = 1 if ask.texts == 1 else max(1, min(ask.texts, self._expected()))
        return self.cost.at_best_s(ask.tokens, spread)

    def _expected(self) -> int:
        return max(len(self.batcher.replicas), sum(state != "TERMINATED" for state in self.states.values()))

    def queue_state(self, due_s: float) -> QueueState:
        """The queue as a request that is due at `due_s` finds it."""
        planner, now_s = self.planner, self._telemetry.now()
        return QueueState(
            online_tokens=planner.online_tokens,
            batch_tokens=planner.batch_tokens,
            running_s=self.batcher.running_s(),
            replicas=max(1, len(self.batcher.replicas)),
            usual_tokens=self.usual.tokens,
            before_tokens=planner.online_tokens_before(due_s),
            deferred_tokens=planner.deferred_tokens,
            deferred_share=planner.share.expected(now_s),
            granted_share=planner.granted_share(now_s, max(1, len(self.batcher.replicas))),
        )

    def capacity_tokens_per_s(self) -> float:
        """Tokens per second that all replicas together compute in full passes."""
        tokens = self.planner.pass_tokens
        return tokens / self.cost.of(tokens) * len(self.batcher.replicas)

    def computed(self, replica: Replica, text: str, vector: Vector) -> None:
        # What a replaced process still brings back was computed by other weights, perhaps.
        if any(replica is other for other in self.replicas):
            self._cache.put(self.generation, text, vector)

    def passed(self, texts: int, tokens: int, timing: PassTiming) -> None:
        self._telemetry.passed(texts, tokens, timing)

    def lost(self, replica: Replica, *, leaving: bool) -> None:
        if leaving:
            self.health.left(replica.identity, self._telemetry.now())
        self.replicas = [other for other in self.replicas if other is not replica]
        self._telemetry.count("replica", "leaving" if leaving else "lost")
        self._on_lost()


def _weights(replica: ServedReplica) -> str:
    """What tells two sets of weights apart: the engine's fingerprint, else the process itself."""
    return str(replica.status.get("fingerprint") or replica.identity)
