"""
Model processes as seen from the API process: the only place besides `extension` that talks to Xinference's actors.

References are cached, which saves three calls per pass. They go stale when a model process is recovered or relaunched
(it gets a new port); then `ReplicaLost` is raised and the whole list is read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import xoscar as xo

from slo.serve.door.batcher import Embedded, ReplicaLost
from slo.serve.door.planner import Load
from slo.serve.door.problem import Unanswered, not_ready, unknown_model

STATUS_TIMEOUT_S = 5.0
MOST_NAME = 256  # characters of a model's name

# What a call on a stale or dying reference raises; see xinference-notes, direct references.
GONE = (xo.ServerClosed, xo.ActorNotExist, ConnectionError, EOFError)


class ActorReplica:
    """One model process that has our engine. `identity` changes when the process does."""

    def __init__(self, ref: Any, status: dict[str, Any], timeout_s: float) -> None:
        self.load = Load()
        self.identity = (_text(ref.uid), str(ref.address))
        self.status = status
        self._ref = ref
        self._timeout_s = timeout_s

    @property
    def uid(self) -> str:
        return self.identity[0]

    async def embed(self, texts: list[str]) -> Embedded:
        """One actor call. Raises `ReplicaLost` when the process is gone or silent, else what the engine raised."""
        try:
            answer: Embedded = await xo.wait_for(self._ref.embed_batch(texts), self._timeout_s)
        except GONE as error:
            raise ReplicaLost(f"{type(error).__name__}") from error
        except asyncio.TimeoutError as error:
            raise ReplicaLost(f"no answer within {self._timeout_s:g} s") from error
        return answer

    async def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        """Texts as their first `limit` tokens read, see `TextTokenizer.cut`. Raises `ReplicaLost`."""
        try:
            shorter: list[str] = await xo.wait_for(self._ref.cut(list(texts), limit), self._timeout_s)
        except (asyncio.TimeoutError, *GONE) as error:
            raise ReplicaLost(f"{type(error).__name__}") from error
        return shorter

    async def refresh_status(self) -> None:
        """Read `status` anew. Raises `ReplicaLost`."""
        self.status = await _engine_status(self._ref)


class ActorFinder:
    """Finds the replicas of a model through the supervisor."""

    def __init__(self, supervisor: Callable[[], Awaitable[Any]], timeout_s: float, *, loading: type[Exception]) -> None:
        """`loading` is what the host raises while a model is being loaded."""
        self._supervisor = supervisor
        self._timeout_s = timeout_s
        self._loading = loading
        self._states: dict[str, dict[str, str]] = {}

    def states(self, model: str) -> Mapping[str, str]:
        """What the supervisor last said of each replica, READY or not: LOADING, ERROR … by uid."""
        return self._states.get(model, {})

    async def find(self, model: str) -> list[ActorReplica]:
        """All ready replicas; empty when the model runs on an engine that is not ours.

        Raises `Problem`: 404 for a model that does not run, 503 while it is loading, recovering or stopping, and
        `Unanswered` when the supervisor did not say which of these.
        """
        if len(model) > MOST_NAME or not model.isprintable():
            raise unknown_model(model)  # no model can have that name, and the host would log all of it
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
        found = await asyncio.gather(*(self._probe(row) for row in ready), return_exceptions=True)
        if any(isinstance(result, AttributeError) for result in found):
            return []
        replicas = [result for result in found if isinstance(result, ActorReplica)]
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
        except ReplicaLost:
            pass
        # It is ours. Either it has become ready in between, or the worker has not told the supervisor its address.
        raise Unanswered(f"where the replicas of '{model}' are is not known yet")

    async def _probe(self, row: dict[str, Any]) -> ActorReplica:
        """The replica of one status row. Raises `AttributeError` when its engine is not ours."""
        ref = await xo.wait_for(xo.actor_ref(row["model_address"], row["replica_model_uid"]), STATUS_TIMEOUT_S)
        return ActorReplica(ref, await _engine_status(ref), self._timeout_s)


async def _engine_status(ref: Any) -> dict[str, Any]:
    try:
        status: dict[str, Any] = await xo.wait_for(ref.engine_status(), STATUS_TIMEOUT_S)
    except GONE as error:
        raise ReplicaLost(type(error).__name__) from error
    except asyncio.TimeoutError as error:
        raise ReplicaLost(f"no status within {STATUS_TIMEOUT_S:g} s") from error
    return status


def _text(uid: str | bytes) -> str:
    return uid.decode() if isinstance(uid, bytes) else uid
