"""
Model processes as seen from the API process: the only place besides `extension` that talks to Xinference's actors.

References are cached, which saves three calls per pass. They go stale when a model process is recovered or relaunched
(it gets a new port); then `ReplicaLost` is raised and the whole list is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import xoscar as xo
from xoscar.backends.message import (
    DEFAULT_PROTOCOL,
    ControlMessage,
    ControlMessageType,
    _AsCauseBase,
    new_message_id,
)
from xoscar.context import get_context

from slo.serve.door.passes import Embedded, ReplicaLoad, ReplicaLost
from slo.serve.door.problem import Unanswered, not_ready, unknown_model
from slo.serve.engine.model_process import Leaving

STATUS_TIMEOUT_S = 2.0
AGAIN_TIMEOUT_S = 0.2  # for one that was silent last time
MOST_NAME = 256  # characters of a model's name

# What a call on a stale or dying reference raises; see xinference-notes, direct references. A dead host: OSError.
GONE = (xo.ServerClosed, xo.ActorNotExist, OSError, EOFError)


class ActorReplica:
    """One model process that has our engine. `identity` changes when the process does.

    `worker` is the address of the worker whose process it is. No call ends by a clock: whoever judges the process
    gives it up.
    """

    def __init__(self, identity: tuple[str, str], ref: Any, status: dict[str, Any], worker: str) -> None:
        """`ref` is None for one that cannot be asked for it yet."""
        self.load = ReplicaLoad()
        self.identity = identity
        self.status = status
        self._ref = ref
        self._worker = worker
        self._out: set[asyncio.Future[Any]] = set()  # passes that are out

    @property
    def uid(self) -> str:
        return self.identity[0]

    async def embed(self, texts: list[str]) -> Embedded:
        """One actor call. Raises `ReplicaLost` when the process is gone or given up, else what the engine raised."""
        answer: Embedded = await self._call("embed_batch", texts)
        return answer

    async def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        """Texts as their first `limit` tokens read, see `TextTokenizer.cut`. Raises `ReplicaLost`."""
        shorter: list[str] = await self._call("cut", list(texts), limit)
        return shorter

    async def refresh_status(self) -> None:
        """Read `status` anew. Raises `ReplicaLost`."""
        self.status = await self._call("engine_status")

    def give_up(self, reason: str) -> None:
        """Let all passes that are out raise `ReplicaLost`."""
        for future in self._out:
            if not future.done():
                future.set_exception(ReplicaLost(reason))

    async def end_by_worker(self) -> None:
        """Ask the worker to kill the process, as it does when it removes one by force. Raises `ReplicaLost`."""
        order = ControlMessage(
            new_message_id(), self.identity[1], ControlMessageType.stop, (None, True), protocol=DEFAULT_PROTOCOL
        )
        try:
            await xo.wait_for(get_context()._call(self._worker, order), STATUS_TIMEOUT_S)
        except (asyncio.TimeoutError, KeyError, *GONE) as error:
            raise ReplicaLost(f"the worker {self._worker} did not end it: {type(error).__name__}") from error

    async def _call(self, method: str, *arguments: Any) -> Any:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self._ask(method, arguments))
        task.add_done_callback(lambda done: _settle(result, done))
        if method != "engine_status":  # a process that is given up is still asked how it is
            self._out.add(result)
        try:
            return await result
        finally:
            self._out.discard(result)
            if not task.done():
                task.cancel()

    async def _ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if self._ref is None:
            self._ref = await xo.actor_ref(self.identity[1], self.identity[0])
        return await getattr(self._ref, method)(*arguments)


class ActorFinder:
    """Finds the replicas of a model through the supervisor."""

    def __init__(self, supervisor: Callable[[], Awaitable[Any]], *, loading: type[Exception]) -> None:
        """`loading` is what the host raises while a model is being loaded."""
        self._supervisor = supervisor
        self._loading = loading
        self._states: dict[str, dict[str, str]] = {}
        self._silent: dict[str, list[ActorReplica]] = {}

    def states(self, model: str) -> Mapping[str, str]:
        """What the supervisor last said of each replica, READY or not: LOADING, ERROR … by uid."""
        return self._states.get(model, {})

    def silent(self, model: str) -> Sequence[ActorReplica]:
        """Replicas that count as ready, found last, and did not tell their status in time."""
        return self._silent.get(model, ())

    async def find(self, model: str) -> list[ActorReplica]:
        """All ready replicas; empty when the model runs on an engine that is not ours.

        Raises `Problem`: 404 for a model that does not run, 503 while it is loading, recovering or stopping, and
        `Unanswered` when the supervisor did not say which of these.
        """
        if len(model) > MOST_NAME or not model.isprintable():
            raise unknown_model(model)  # no model can have that name, and the host would log all of it
        silent = {replica.identity for replica in self._silent.pop(model, ())}
        try:
            supervisor = await self._supervisor()
            rows = await supervisor.get_replica_statuses(model)
        except ValueError:
            self._states.pop(model, None)
            raise unknown_model(model) from None
        except (RuntimeError, asyncio.TimeoutError, *GONE) as error:
            raise Unanswered(f"the supervisor did not answer for '{model}': {type(error).__name__}") from None
        self._states[model] = {row["replica_model_uid"]: row["status"] for row in rows}
        ready = [row for row in rows if row["status"] == "READY" and row.get("model_address")]
        if not ready:
            await self._explain(supervisor, model)
            return []
        found = await asyncio.gather(*(self._probe(row, silent) for row in ready), return_exceptions=True)
        if any(isinstance(result, AttributeError) for result in found):
            return []
        told = [result for result in found if isinstance(result, ActorReplica)]
        replicas = [replica for replica in told if replica.status]
        self._silent[model] = [replica for replica in told if not replica.status]
        if not replicas:
            raise not_ready(f"no replica of '{model}' answers")
        return replicas

    async def models(self) -> list[str]:
        """Names of all embedding models that run. Raises `Problem` 503."""
        try:
            listed = await (await self._supervisor()).list_models()
        except (RuntimeError, *GONE) as error:
            raise not_ready(f"the supervisor cannot be reached: {type(error).__name__}") from error
        return [uid for uid, facts in listed.items() if facts.get("model_type") == "embedding"]

    async def _explain(self, supervisor: Any, model: str) -> None:
        """Raise why no replica is ready. Returns when another engine serves the model."""
        try:
            ref = await supervisor.get_model(model)
        except ValueError:
            self._states.pop(model, None)
            raise unknown_model(model) from None
        except self._loading:
            raise not_ready(f"the model '{model}' is loading", retry_after_s=10) from None
        except (RuntimeError, *GONE) as error:
            raise not_ready(f"the model '{model}' cannot be reached: {type(error).__name__}") from None
        try:
            await _engine_status(ref)
        except AttributeError:
            return
        except (asyncio.TimeoutError, *GONE):
            pass
        # It is ours. Either it has become ready in between, or the worker has not told the supervisor its address.
        raise Unanswered(f"where the replicas of '{model}' are is not known yet")

    async def _probe(self, row: dict[str, Any], silent: Collection[tuple[str, str]]) -> ActorReplica:
        """The replica of one status row, with an empty status if it is silent. Who was `silent` is not waited for long.

        Raises `AttributeError` when its engine is not ours, and what is in `GONE`.
        """
        who = (row["replica_model_uid"], row["model_address"])
        timeout_s = AGAIN_TIMEOUT_S if who in silent else STATUS_TIMEOUT_S
        ref, status = None, {}
        try:
            ref = await xo.wait_for(xo.actor_ref(who[1], who[0]), timeout_s)
            status = await _engine_status(ref, timeout_s)
        except asyncio.TimeoutError:
            pass  # it is silent
        return ActorReplica(who, ref, status, row.get("worker_address") or "")


async def _engine_status(ref: Any, timeout_s: float = STATUS_TIMEOUT_S) -> dict[str, Any]:
    status: dict[str, Any] = await xo.wait_for(ref.engine_status(), timeout_s)
    return status


def _settle(result: asyncio.Future[Any], done: asyncio.Future[Any]) -> None:
    """Hand the outcome of a call on, in the queue's terms. A cancellation that is not ours: the engine ends."""
    error = asyncio.CancelledError() if done.cancelled() else done.exception()
    if result.done():
        return
    if error is None:
        result.set_result(done.result())
    elif isinstance(error, Leaving):
        result.set_exception(ReplicaLost("it is being stopped", leaving=True))
    elif isinstance(error, asyncio.CancelledError) or (isinstance(error, GONE) and not _raised_there(error)):
        result.set_exception(ReplicaLost(type(error).__name__))
    else:
        result.set_exception(error)


def _raised_there(error: BaseException) -> bool:
    """Did the engine itself meet with this, a missing file perhaps? Then its process answers, and is not gone."""
    return isinstance(error, _AsCauseBase) and not isinstance(error, xo.ServerClosed | xo.ActorNotExist)
