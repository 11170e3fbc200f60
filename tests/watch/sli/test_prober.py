"""Probes against real sockets: at random moments, all of them counted once, and none waited for without end."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import Unauthorized
from slo.objective import Objective
from slo.texts import mix
from slo.watch.sli.golden import TEXTS, Golden
from slo.watch.sli.probe import ProbeTally
from slo.watch.sli.prober import TRICKLE, Prober
from tests.real_servers import until
from tests.stub_server import Reply, Script, StubServer

GOLDEN = {text for _, text in TEXTS}


@contextmanager
def probing(
    script: Script,
    *,
    probes: int = 20,
    interval_s: float = 2.0,
    patience_s: float = 1.0,
    threshold_ms: float = 150,
    clock: SystemClock | None = None,
) -> Iterator[tuple[Prober, StubServer]]:
    with StubServer(script) as server:
        prober = Prober(
            lambda: EmbeddingsClient(server.endpoint, "stub", timeout_s=patience_s, source="probe"),
            mix(random.randrange(2**32)),
            Objective(threshold_ms=threshold_ms),
            Golden(server.endpoint, "stub"),
            probes=probes, interval_s=interval_s, patience_s=patience_s, clock=clock or SystemClock(),
        )  # fmt: skip
        with prober:
            yield prober, server


def gathered(prober: Prober, total: int) -> ProbeTally:
    """Harvests until they hold `total` counted probes, added up."""
    found = ProbeTally(Objective())
    deadline_s = time.monotonic() + 60
    while found.total < total and time.monotonic() < deadline_s:
        part = prober.harvest()
        found.total, found.good = found.total + part.total, found.good + part.good
        found.sent, found.looked_at, found.right = (
            found.sent + part.sent, found.looked_at + part.looked_at, found.right + part.right,
        )  # fmt: skip
        found.failures.update(part.failures)
        time.sleep(0.05)
    return found


def test_the_first_round_brings_all_its_probes_at_once() -> None:
    with probing(lambda _n, _texts: Reply(), interval_s=5.0) as (prober, server):
        tally = prober.harvest()
        assert (tally.total, tally.failures, tally.sent) == (20, {}, 23)
        assert (tally.looked_at, tally.right) == (23, 23)
        own = [text for text in server.texts if text not in GOLDEN]
        assert len(set(own)) == len(own) >= 20
        assert set(server.texts) >= GOLDEN
        known = [seen.headers for seen in server.requests if seen.body["input"] in GOLDEN]
        assert all("no-cache" in headers["cache-control"] for headers in known)
        assert {seen.headers["x-slo-source"] for seen in server.requests} == {"probe"}


def test_every_probe_is_counted_once_whatever_the_harvests() -> None:
    with probing(lambda _n, _texts: Reply(), interval_s=1.0) as (prober, server):
        found = gathered(prober, 60)
        until("all are answered", lambda: True)
        assert found.good == found.total
        assert found.sent <= len(server.requests)


def test_moments_are_random_and_fill_the_interval() -> None:
    prober = Prober(
        lambda: EmbeddingsClient("http://127.0.0.1:1", "m"), mix(1), Objective(), Golden("h", "m"),
        probes=60, interval_s=60.0, patience_s=7.5, clock=SystemClock(), chance=random.Random(7),
    )  # fmt: skip
    plans = [[probe.due_s for probe in prober._plan(0.0, 60.0)] for _ in range(50)]
    assert all(len(plan) == 60 + len(TEXTS) and plan == sorted(plan) for plan in plans)
    tenths = [sum(int(due_s // 6) == tenth for plan in plans for due_s in plan) for tenth in range(10)]
    assert min(tenths) > 220, "315 each on average, and six standard deviations less"
    assert len({round(due_s, 6) for plan in plans for due_s in plan}) == 50 * 63
    prober.pace(full=False)
    assert len(prober._plan(0.0, 60.0)) == TRICKLE + len(TEXTS)


class Halting(SystemClock):
    """A clock that jumps, as it does for a process that was halted."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


def test_what_this_process_missed_while_it_was_halted_is_no_latency_and_is_not_caught_up_with() -> None:
    clock, under_way = Halting(), threading.Event()

    def slow(_n: int, _texts: list[str]) -> Reply:
        under_way.set()
        return Reply(delay_s=0.3)

    with probing(slow, interval_s=4.0, patience_s=30.0, threshold_ms=10_000, clock=clock) as (prober, server):
        prober.harvest()
        under_way.clear()
        assert under_way.wait(60)
        sent = len(server.requests)
        clock.ahead_s += 15.0  # more than is good, less than patience
        found = gathered(prober, 10)
        assert found.failures == {}
        assert found.good == found.total, "none waited for an answer while nobody was there to receive it"
        assert len(server.requests) - sent < 20 + len(TEXTS), "no burst for what was due meanwhile"


def test_a_stall_of_a_part_of_each_interval_is_seen() -> None:
    """400 ms for 6 of every 10 s, scaled: with probes in one part of the interval alone, all of it was good."""
    started_s = time.monotonic()

    def stalls(_n: int, _texts: list[str]) -> Reply:
        return Reply(delay_s=0.4 if 0.2 <= (time.monotonic() - started_s) % 1.0 < 0.8 else 0.0)

    with probing(stalls, probes=40, interval_s=2.0) as (prober, _):
        found = gathered(prober, 160)
    assert 0.3 < 1 - found.good / found.total < 0.9


def test_a_hung_server_makes_all_probes_bad_and_nobody_waits_for_it() -> None:
    with probing(lambda _n, _texts: Reply(delay_s=30), patience_s=0.3) as (prober, _):
        before_s = time.monotonic()
        found = gathered(prober, 20)
        assert time.monotonic() - before_s < 20
        assert (found.good, set(found.failures)) == (0, {"timeout"})


def test_a_slow_server_is_asked_by_several_at_once_and_each_request_has_its_own_latency() -> None:
    with probing(lambda _n, _texts: Reply(delay_s=0.3), probes=20, interval_s=4.0, threshold_ms=3000, patience_s=4) as (
        prober, _,
    ):  # fmt: skip
        found = gathered(prober, 50)
        assert found.good == found.total, "one after another they would be later and later"


def test_the_first_probes_do_not_overload_the_server_themselves() -> None:
    under_way, most = 0, 0

    def alone(_n: int, _texts: list[str]) -> Reply:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        under_way -= 1
        return Reply()

    with probing(alone, probes=30, interval_s=4.0, patience_s=4.0) as (prober, _):
        assert prober.harvest().total == 30
        assert most <= 3, "those of the next interval may have begun"


def test_wrong_vectors_of_the_right_form_are_bad_answers() -> None:
    body = {"data": [{"index": 0, "embedding": [0.0] * 5}], "usage": {"total_tokens": 1}}
    with probing(lambda _n, _texts: Reply(body=body)) as (prober, _):
        tally = prober.harvest()
    assert (tally.right, tally.looked_at, tally.good) == (0, 23, 0)
    assert tally.failures == {"bad_answer": 20}
    assert "a vector without length" in str(tally.last_error)


def test_a_rejected_key_is_our_mistake() -> None:
    with probing(lambda _n, _texts: Reply(status=401)) as (prober, _), pytest.raises(Unauthorized):
        prober.harvest()


def test_a_mistake_of_our_own_is_raised_where_it_is_seen() -> None:
    def connect() -> EmbeddingsClient:
        raise ZeroDivisionError

    prober = Prober(connect, mix(1), Objective(), Golden("h", "m"), probes=5, interval_s=1.0, patience_s=1.0,
                    clock=SystemClock())  # fmt: skip
    with prober, pytest.raises(ZeroDivisionError):
        prober.harvest()
