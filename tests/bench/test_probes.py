"""Real probes decide as simulated ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from slo.bench.conditions import Stopper
from slo.bench.probes import clients_probe, coarse_test, confirmation, cool_down, fine_test, rate_probe
from slo.client import EmbeddingsClient
from slo.clock import ManualClock
from slo.errors import Interrupted
from slo.objective import Objective, Verdict
from tests.bench.test_load import session
from tests.stub_server import Reply, StubServer

Start = Callable[..., str]


def test_a_rate_within_capacity_is_met_and_one_above_is_missed_sooner(program: Start) -> None:
    to = session(program("batch_server.py", "--fixed", 10, "--cap", 22))  # one request at a time: 100/s
    low = rate_probe(to, 50, Stopper(), coarse_test(to.objective, 50, 3))
    assert low.verdict is Verdict.MET, low.remark
    high = rate_probe(to.reseeded(1), 200, Stopper(), coarse_test(to.objective, 200, 3))
    assert high.verdict is Verdict.MISSED
    assert high.seconds < low.seconds + 8


def test_a_fine_probe_looks_once_and_at_its_end(program: Start) -> None:
    """Hopeless from the first hundred on, and yet it goes on: its bad ratio is what is wanted."""
    to = session(program("batch_server.py", "--fixed", 10, "--cap", 22))
    test = fine_test(to.objective, 200, 2)
    test.looks = [400]
    found = rate_probe(to, 200, Stopper(), test)
    assert (found.total, found.verdict) == (400, Verdict.MISSED)


@pytest.mark.parametrize(("rate", "size"), [(1.0, 100), (50.0, 2000), (100.0, 3000), (1000.0, 15_000)])
def test_the_size_of_a_fine_probe_is_bounded_in_time_and_in_requests(rate: float, size: int) -> None:
    assert fine_test(Objective(), rate).looks == [size]


@pytest.mark.parametrize(("rate", "first"), [(5.0, 100), (33.0, 100), (600.0, 1800)])
def test_a_probe_is_not_missed_by_one_stall_at_a_high_rate(rate: float, first: int) -> None:
    assert coarse_test(Objective(), rate).looks[0] == first


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
        rate_probe(to, 20, stopper, coarse_test(to.objective, 20))


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


def test_a_confirmation_is_held_to_half_the_error_since_it_may_be_repeated(program: Start) -> None:
    run = confirmation(session(program("batch_server.py", "--fixed", 3)), 60, Stopper(), seconds=6)[-1]
    assert run.objective.confidence == pytest.approx(0.975)
    assert run.verdict is not Verdict.MISSED
