"""
`POST /v1/embeddings`, from the body to the reply: validate → cache → admission → queue → answer.

Knows neither the host nor a socket. Who calls it brings the body, the headers that matter, the permission check of
the host, and a way to learn that the client has gone. Every way out is a `Reply`, or none: the host's own route is to
answer, and `passed_on` counts that: what one of Xinference's own engines serves beyond plain texts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from slo.serve.door.admission import Ask, Decision, sent_as_batch
from slo.serve.door.cache import Cache, Vector
from slo.serve.door.call import Bodies, Call, ClientGone, RequestTrace, watch_client
from slo.serve.door.directory import Directory
from slo.serve.door.lane import Lane
from slo.serve.door.problem import Problem, refused, timed_out, too_large
from slo.serve.door.request import EmbeddingRequest, TokenIds, is_plain, model_of, parse, read_json
from slo.serve.door.responses import (
    Delay,
    Reply,
    cache_status,
    problem_reply,
    server_timing,
    too_long,
    truncation,
    written,
)
from slo.serve.door.work import Ticket, waited
from slo.serve.telemetry.telemetry import NO_MODEL, Telemetry, code_class, length_class
from slo.settings_serve import ServeSection

WATCH_CLIENT_AFTER_S = 0.05  # a request that waits longer looks whether its client is still there


class Front:
    """The handler; one per API process."""

    def __init__(
        self, settings: ServeSection, directory: Directory, cache: Cache, telemetry: Telemetry,
        delay: Delay | None = None, read_ids: TokenIds | None = None,
    ) -> None:  # fmt: skip
        self._read_ids = read_ids or TokenIds(None)
        self._delay = delay or Delay(telemetry.now)
        self._limits = settings.limits
        self.bodies = Bodies(2 * max(self._limits.max_queue, self._limits.max_body))
        self._timeout_s = settings.admission.request_timeout
        self._deadline_s = settings.admission.deadline_s
        self._directory = directory
        self._cache = cache
        self._telemetry = telemetry

    @property
    def max_body(self) -> int:
        """Most bytes of a body that is meant for our engine."""
        return self._limits.max_body

    async def may_exceed(self) -> bool:
        """May a longer body be meant for a model of another engine, which has no such limit?"""
        return await self._directory.has_foreign() or any(lane.guest for lane in self._directory.lanes)

    def crowded(self) -> Problem:
        """The refusal of a body that is too much beside the others."""
        self._telemetry.count("rejected", "queue_full")
        return refused("queue_full", "the bodies of other requests take too much memory", 0.0, 1.0)

    def unread(self, problem: Problem, arrived_s: float) -> tuple[Reply, RequestTrace]:
        """The answer to a body that was not read, or not to its end."""
        return self._problem(problem, RequestTrace(arrived_s))

    async def answer(self, call: Call) -> tuple[Reply | None, RequestTrace]:
        """The reply and its trace, to be given to `finish` once written. No reply: the host's route is to answer.

        Raises what `permit` raises, and `ClientGone`.
        """
        trace = RequestTrace(call.arrived_s, source=call.source)
        self._telemetry.in_flight += 1
        try:
            data = read_json(call.body)
            model = model_of(data)
            if call.permit is not None:
                call.permit(model)
            lane = self._directory.ready(model) or await self._lane(model, data, call, trace)
            trace.model = model
            fits = len(call.body) <= self._limits.max_body
            if lane is None or (lane.guest and not (fits and is_plain(data, self._limits.max_inputs))):
                trace.length = self._length(data, call)
                return None, trace
            if not fits:
                raise too_large(self._limits.max_body)
            request = parse(data, self._limits, self._read_ids)
            if lane.guest:
                request = replace(request, normalise=False)  # its vectors are as it makes them
            trace.length = length_class(request.texts)
            if not call.source:
                self._telemetry.arrivals.note(call.arrived_s, request.texts)
                self._telemetry.stage("upload", call.upload_s)
            return await self._embed(lane, request, call, trace), trace
        except Problem as problem:
            return self._problem(problem, trace)
        except ClientGone:
            self._gave_up(trace)
            raise
        finally:
            self._telemetry.in_flight -= 1

    async def passed_on(self, trace: RequestTrace, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What the host's own route answers, or raises; counted, not shaped."""
        status = 500
        self._telemetry.in_flight += 1
        try:
            status = (response := await ask()).status_code
            return response
        except Exception as error:
            status = int(getattr(error, "status_code", status))
            raise
        finally:
            self._telemetry.in_flight -= 1
            self._count(trace, code_class(status, None))

    def finish(self, reply: Reply, trace: RequestTrace) -> None:
        """Count the request; its answer is about to be handed over."""
        self._count(trace, code_class(reply.status, trace.reason))

    def _count(self, trace: RequestTrace, code: str) -> None:
        seconds = self._telemetry.now() - trace.arrived_s
        if trace.source:
            self._telemetry.own(trace.model, trace.length, trace.source, code, cached=trace.cached, seconds=seconds)
        else:
            self._telemetry.request(trace.model, trace.length, code, cached=trace.cached, seconds=seconds)
        if trace.replica and trace.length != "batch":
            self._telemetry.computed(trace.model, trace.replica, code, seconds)

    def broken_off(self) -> None:
        """A client left before its request was here in full: nobody's event, but shown."""
        self._telemetry.count("excluded", "upload_broken_off")

    def _gave_up(self, trace: RequestTrace) -> None:
        """A client that waited for longer than was promised had reason to leave; one that left earlier is no event."""
        self._telemetry.count("rejected", "client_gone")
        waited_s = self._telemetry.now() - trace.arrived_s
        if trace.model == NO_MODEL or trace.length == "batch" or waited_s <= self._deadline_s:
            self._telemetry.count("excluded", "client_gone")
        else:
            trace.reason = "client_gone"
            self._count(trace, code_class(499, trace.reason))

    async def _lane(self, model: str, data: dict[str, Any], call: Call, trace: RequestTrace) -> Lane | None:
        """The lane after a look-up. A refusal by a model that exists is counted as that model's."""
        try:
            return await self._directory.lane(model)
        except Problem:
            if self._directory.confirmed(model):
                trace.model = model
                trace.length = self._length(data, call)
            raise

    def _length(self, data: dict[str, Any], call: Call) -> str:
        """The length class under which a request that no lane has seen is counted."""
        try:
            texts = parse(data, self._limits, self._read_ids).texts
        except Problem:
            return NO_MODEL
        batch = call.deadline_ms is None and sent_as_batch(len(texts), said=call.class_ == "batch")
        return "batch" if batch else length_class(texts)

    async def _embed(self, lane: Lane, request: EmbeddingRequest, call: Call, trace: RequestTrace) -> Reply:
        telemetry, generation = self._telemetry, lane.generation
        if hold_s := self._delay.seconds:  # a drill
            await asyncio.sleep(hold_s)
        texts = await lane.as_computed(request)
        parsed_s = telemetry.now()
        found: dict[str, Vector] = {}
        if self._cache.enabled and not call.fresh:
            for text in texts:
                vector = self._cache.get(generation, text)
                if vector is not None:
                    found[text] = vector
        hits = sum([text in found for text in texts]) if found else 0
        missing = [text for text in dict.fromkeys(texts) if text not in found] if hits else texts
        if not hits and len(missing) > 1:
            missing = list(dict.fromkeys(missing))
        timing = {"upload": call.upload_s * 1000} if call.upload_s else {}
        timing["parse"] = (parsed_s - call.arrived_s) * 1000
        collapsed = False
        if missing:
            collapsed = await self._compute(lane, missing, request, call, trace, timing, found)
        trace.cached = not missing
        if self._cache.enabled:
            if hits:
                telemetry.count("cache", "hit", amount=hits)
            if missing:
                telemetry.count("cache", "miss", amount=len(missing))
        vectors = [found[text] for text in texts]
        unread = [vector.truncated for vector in vectors if vector.truncated]
        if unread and not request.truncate:
            raise too_long(vectors)
        started_s = telemetry.now()
        body = await written(request, vectors)
        ended_s = telemetry.now()
        telemetry.stage("serialise", ended_s - started_s)
        total_ms = (ended_s - call.arrived_s) * 1000
        timing["serialise"] = (ended_s - started_s) * 1000
        # From the pass's end, or from parsing where nothing was computed, until this request had its turn again.
        timing["resume"] = max(0.0, total_ms - sum(timing.values()) + timing.get("upload", 0.0))
        timing["total"] = total_ms
        status = cache_status(hits, len(request.texts), enabled=self._cache.enabled, collapsed=collapsed)
        if unread and not call.source:
            telemetry.count("truncated", "texts", amount=len(unread))
            telemetry.count("truncated", "characters", amount=sum(unread))
        headers = {"cache-status": status, "server-timing": server_timing(timing), **truncation(unread)}
        return Reply(200, body, headers)

    async def _compute(
        self,
        lane: Lane,
        missing: list[str] | tuple[str, ...],
        request: EmbeddingRequest,
        call: Call,
        trace: RequestTrace,
        timing: dict[str, float],
        found: dict[str, Vector],
    ) -> bool:
        """Put the vectors of `missing` into `found`. True when other requests were computing all of them already."""
        # Nothing to pay for what another request is computing anyway.
        new = [text for text in missing if lane.batcher.in_flight(text) is None]
        counts = {text: lane.estimate.of(text) for text in missing}
        tokens = sum([counts[text] for text in new])
        now_s = self._telemetry.now()
        ask = Ask(len(request.texts), tokens, call.deadline_s(), call.class_ == "batch", now_s - call.arrived_s)
        decision = lane.admit(ask)
        if not decision.online:
            trace.length = "batch"
        if decision.refused is not None and new:
            raise self._refused(lane, ask, decision)
        ticket = lane.batcher.submit(
            missing, list(counts.values()), online=decision.online, due_s=call.arrived_s + decision.target_s,
            deferred=decision.deferred, deferrable=decision.deferrable,
        )  # fmt: skip
        if decision.deferred:
            self._telemetry.count("deferred")
        try:
            await self._wait(lane, ticket, call, ask, decision)
        except Problem as problem:
            if problem.reason == "deadline_passed":
                self._learn(lane, decision, now_s)
            raise
        finally:
            trace.replica = ticket.replica
        if new:
            self._learn(lane, decision, now_s)
        last = ticket.last
        for job in ticket.jobs:
            if job.vector is not None:
                found[job.text] = job.vector
        if last is not None and last.timing is not None:
            queued_s = max(0.0, last.timing.dispatched_s - now_s)
            self._telemetry.stage("queue", queued_s)
            timing["lookup"] = max(0.0, (now_s - call.arrived_s) * 1000 - timing["parse"])
            timing |= waited(last.timing, now_s, queued_s)
        return not new

    def _learn(self, lane: Lane, decision: Decision, since_s: float) -> None:
        """Compare the prediction with what came of it, also when it came too late: that is the case that matters."""
        if decision.timely:
            now_s = self._telemetry.now()
            ratio = (now_s - since_s) / decision.predicted_s
            lane.headroom.observe(decision.predicted_s / decision.target_s, ratio, now_s)

    async def _wait(self, lane: Lane, ticket: Ticket, call: Call, ask: Ask, decision: Decision) -> None:
        """Until the ticket is done. Raises what its pass raised, `Problem` when time is up, or `ClientGone`."""
        loop = asyncio.get_running_loop()
        now_s = self._telemetry.now()
        if decision.deadline_s is None:
            allowed_s = self._timeout_s + (0 if decision.online else 3 * decision.predicted_s)
        else:
            allowed_s = max(0.0, call.arrived_s + decision.deadline_s - now_s)

        def late() -> None:
            if decision.deadline_s is None:
                ticket.failed(timed_out(allowed_s))
            else:
                message = f"the deadline of {decision.deadline_s * 1000:g} ms has passed"
                retry_s = lane.come_back_s(ask, decision)
                ticket.failed(refused("deadline_passed", message, decision.predicted_s, retry_s))

        timer = loop.call_later(allowed_s, late)
        watch: list[asyncio.Task[None]] = []
        watcher = loop.call_later(WATCH_CLIENT_AFTER_S, watch_client, ticket, call, watch)
        try:
            await ticket.future
        except BaseException:
            lane.batcher.leave(ticket)
            raise
        finally:
            timer.cancel()
            watcher.cancel()
            for task in watch:
                task.cancel()

    def _refused(self, lane: Lane, ask: Ask, decision: Decision) -> Problem:
        reason = decision.refused or "overloaded"
        self._telemetry.count("rejected", reason)
        what = (
            "the queue is full" if reason == "queue_full"
            else "too many wait" if decision.deferred
            else "the deadline cannot be met now"
        )  # fmt: skip
        message = f"{what}: the predicted wait is {decision.predicted_s * 1000:.0f} ms"
        return refused(reason, message, decision.predicted_s, lane.come_back_s(ask, decision))

    def _problem(self, problem: Problem, trace: RequestTrace) -> tuple[Reply, RequestTrace]:
        trace.reason = problem.reason
        if problem.reason in ("deadline_passed", "timeout"):
            self._telemetry.count("rejected", problem.reason)
        return problem_reply(problem), trace
