"""A job ends once, however many passes bring its vector."""

from __future__ import annotations

import asyncio

from slo.serve.door.cache import Vector
from slo.serve.door.problem import not_ready
from slo.serve.door.work import Job, State, Ticket
from slo.serve.telemetry.telemetry import PassTiming

VECTOR = Vector(b"", 3, 0)
TIMING = PassTiming(0.0, 0.01, {})


async def test_a_job_that_is_finished_twice_counts_once() -> None:
    """A replica dies with two passes: the older one is put on trial, and its answer arrives all the same."""
    first, second = Job("a", 3, True, 0.0), Job("b", 3, True, 0.0)
    ticket = Ticket([first, second], asyncio.get_running_loop())
    for _ in range(2):
        first.finish(VECTOR, TIMING)
    assert (ticket.remaining, ticket.future.done()) == (1, False)
    second.finish(VECTOR, TIMING)
    assert ticket.future.done()


async def test_what_is_finished_does_not_fail_afterwards() -> None:
    first, second = Job("a", 3, True, 0.0), Job("b", 3, True, 0.0)
    ticket = Ticket([first, second], asyncio.get_running_loop())
    first.finish(VECTOR, TIMING)
    first.fail(not_ready("gone"))
    assert (first.state, ticket.future.done()) == (State.DONE, False)
