"""
Looks after the model processes of one lane: asks for signs of life, has them judged, and acts.

A process that is judged unfit gets no more passes, and its calls are given up, so that their texts are computed
elsewhere. One that is judged dead is ended: here by pid and start, elsewhere by its worker. From there on Xinference's
own recovery brings a fresh one, and the directory finds it. Runs in the API process, with or without `slo watch`.
"""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from slo.serve.door.health import COMPUTING, Fitness, HealthVerdict, Identity
from slo.serve.door.lane import Lane, ServedReplica
from slo.serve.door.passes import ReplicaLost, vectors_of
from slo.serve.engine.model_process import ModelProcess
from slo.serve.telemetry.telemetry import Telemetry

TICK_S = 0.5
STATUS_S = 1.0  # between two questions for a status
QUIET_S = 1.0  # after so long without a sign of life, the kernel is asked what a process does
ACTIVE_S = 4.0  # a process that was seen computing within this time still computes
ACTIVE_SHARE = 0.05  # of a core
AGAIN_S = 5.0  # until the end of a process that did not end is ordered again
TEXT = "就绪探测 readiness"

logger = logging.getLogger("xinference.slo")


class Liveness:
    """One lane's. `look` is called every `TICK_S` once started; tests call it themselves."""

    def __init__(self, lane: Lane, telemetry: Telemetry, *, patience_s: float) -> None:
        self._lane = lane
        self._now = telemetry.now
        self._count = telemetry.count
        self._patience_s = patience_s
        self._tasks: dict[tuple[str, Identity], asyncio.Task[None]] = {}
        self._asked_s: dict[Identity, float] = {}
        self._seen: dict[Identity, tuple[float, float, float]] = {}  # when looked, processor time, when last active
        self._ordered_s: dict[Identity, float] = {}
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look regularly from now on; on the event loop."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Stop looking."""
        tasks = [*self._tasks.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Ask, judge, act."""
        lane, health, now_s = self._lane, self._lane.health, self._now()
        health.tick(now_s)
        for replica in (*lane.silent, *lane.absent):
            process = ModelProcess.from_status(replica.status)
            if process is not None and process.has_ended():
                lane.ended(replica)
        watched = {replica.identity: replica for replica in lane.watched}
        health.keep(watched)
        for notes in (self._asked_s, self._seen, self._ordered_s):
            for gone in notes.keys() - watched.keys():
                notes.pop(gone)
        changed: list[tuple[ServedReplica, HealthVerdict]] = []
        for who, replica in watched.items():
            if now_s - self._asked_s.get(who, -STATUS_S) >= STATUS_S and self._begin("status", replica):
                self._asked_s[who] = now_s
            before = health.fitness(who)
            verdict = health.judge(who, now_s, computing=self._computing(replica, now_s))
            if verdict.test:
                self._begin("test", replica)
            if verdict.fitness is not before:
                changed.append((replica, verdict))
            if verdict.fitness is Fitness.DEAD and now_s - self._ordered_s.get(who, -AGAIN_S) >= AGAIN_S:
                self._order_end(replica, verdict, now_s)
        if changed:
            lane.serve()
        for replica, verdict in changed:
            self._act(replica, verdict)

    def _act(self, replica: ServedReplica, verdict: HealthVerdict) -> None:
        uid = replica.identity[0]
        if verdict.fitness is Fitness.FIT:
            logger.warning("xinference-slo: %s serves again", uid)
            return
        logger.warning("xinference-slo: %s is set aside: %s", uid, verdict.reason)
        self._count("replica", "set_aside")
        elsewhere = verdict.fitness is Fitness.SILENT and self._lane.batcher.replicas
        if verdict.fitness is Fitness.DEAD or elsewhere:
            replica.give_up(verdict.reason)

    def _order_end(self, replica: ServedReplica, verdict: HealthVerdict, now_s: float) -> None:
        if replica.identity not in self._ordered_s:
            self._lane.health.was_ended(replica.identity, now_s)
            self._count("replica", "ended")
        self._ordered_s[replica.identity] = now_s
        logger.error("xinference-slo: %s is ended and started anew: %s", replica.identity[0], verdict.reason)
        self._begin("end", replica)

    def _begin(self, what: str, replica: ServedReplica) -> bool:
        """Start one of the jobs below unless the same one is still under way."""
        key = (what, replica.identity)
        if key in self._tasks:
            return False
        job = {"status": self._ask, "test": self._test, "end": self._end}[what]
        task = self._tasks[key] = asyncio.get_running_loop().create_task(job(replica))
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return True

    async def _ask(self, replica: ServedReplica) -> None:
        try:
            await replica.refresh_status()
        except ReplicaLost:
            self._lane.ended(replica)
            return
        except Exception as error:  # noqa: BLE001 - whatever the engine says, its process has answered
            logger.debug("xinference-slo: the status of %s failed: %s", replica.identity[0], error)
        self._lane.health.answered(replica.identity, self._now())

    async def _test(self, replica: ServedReplica) -> None:
        """One pass with a text that is known to be good."""
        fault: str | None = None
        try:
            answer = await asyncio.wait_for(replica.embed([TEXT]), self._patience_s * COMPUTING)
            (vector,) = vectors_of(answer, 1)
            if vector is None or not np.any(np.frombuffer(vector.packed, dtype="<f4")):
                fault = "its vectors are empty or not finite"
        except ReplicaLost:
            return
        except asyncio.TimeoutError:
            fault = "the test with a known text takes too long"
        except Exception as error:  # noqa: BLE001 - whatever the engine raises is the answer
            fault = f"{type(error).__name__}: {str(error)[:200]}"
        self._lane.health.tested(replica.identity, fault)

    async def _end(self, replica: ServedReplica) -> None:
        process = ModelProcess.from_status(replica.status)
        if process is not None and await asyncio.to_thread(process.end):
            return
        try:
            await replica.end_by_worker()
        except ReplicaLost as error:
            logger.error("xinference-slo: %s could not be ended: %s", replica.identity[0], error)

    def _computing(self, replica: ServedReplica, now_s: float) -> bool:
        """Is it at work, as far as the kernel can say? True where it cannot."""
        who = replica.identity
        if self._lane.health.quiet_s(who, now_s) < QUIET_S:
            self._seen.pop(who, None)
            return False
        process = ModelProcess.from_status(replica.status)
        activity = process.activity() if process is not None else None
        if activity is None:
            return True
        looked_s, cpu_s, active_s = self._seen.get(who, (now_s, activity.cpu_s, now_s - ACTIVE_S))
        if activity.state in "RD" or activity.cpu_s - cpu_s > ACTIVE_SHARE * max(now_s - looked_s, TICK_S):
            active_s = now_s
        self._seen[who] = (now_s, activity.cpu_s, active_s)
        return now_s - active_s < ACTIVE_S

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self.look()
            except Exception:  # judging must outlive a fault in it: nobody else would notice
                logger.exception("xinference-slo: looking after %s failed", self._lane.model)
