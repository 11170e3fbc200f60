"""Real probes decide as simulated ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from slo.bench.probes import clients_probe, cool_down, rate_probe
from slo.bench.running import Stopper
from slo.client import EmbeddingsClient
from slo.clock import ManualClock
from slo.errors import Interrupted
from slo.objective import Objective, Verdict
from tests.bench.test_load import session
from tests.stub_server import Reply, StubServer

Start = Callable[..., str]


def test_a_rate_within_capacity_is_met_and_one_above_is_missed_sooner(program: Start) -> None:
    to = session(program("batch_server.py", "--fixed", 10, "--cap", 22))  # one request at a time: 100/s
    low = rate_probe(to, 50, Stopper(), least_s=3)
    assert low.verdict is Verdict.MET, low.remark
    high = rate_probe(to.reseeded(1), 200, Stopper(), least_s=3)
    assert high.verdict is Verdict.MISSED
    assert high.seconds < low.seconds + 8


def test_the_callers_of_a_rung_wait_for_each_other(program: Start) -> None:
    endpoint = program("batch_server.py", "--fixed", 20, "--cap", 1)
    few = clients_probe(session(endpoint), 3, Stopper(), least_s=2)
    many = clients_probe(session(endpoint), 12, Stopper(), least_s=2)
    assert (few.verdict, many.verdict) == (Verdict.MET, Verdict.MISSED)
    assert (few.purpose, few.load) == ("ladder", 3)


def test_an_interrupt_ends_the_search(program: Start) -> None:
    stopper = Stopper()
    to = replace(session(program("batch_server.py")), show=lambda _live: stopper.ask())
    with pytest.raises(Interrupted):
        rate_probe(to, 20, stopper)


def test_cooling_down_waits_for_two_quick_answers_in_a_row() -> None:
    with (
        StubServer(script=lambda n, _t: Reply(status=503 if n in (0, 2) else 200)) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        clock = ManualClock()
        cool_down(client, Objective().threshold_s, clock)
        assert len(server.requests) == 5


def test_cooling_down_has_an_end() -> None:
    with (
        StubServer(script=lambda _n, _t: Reply(status=503)) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        cool_down(client, 0.15, ManualClock(), patience_s=5)
        assert len(server.requests) <= 12
