import pytest

from slo.client import EmbeddingsClient
from slo.clock import ManualClock, SystemClock
from slo.errors import BadAnswer, Refused, RequestError, ServerFault, Unauthorized, Unreachable
from slo.objective import Objective
from slo.samples import Sample
from slo.texts import mix
from slo.watch.sli.probe import ProbeTally, gather, probe_batch
from tests.stub_server import Reply, Script, StubServer

P95 = Objective()


def sample(ms: float = 10.0, error: RequestError | None = None, *, cached: bool = False) -> Sample:
    return Sample(0.0, 0.0, ms / 1000, error.outcome if error else "ok", "short", cached)


def error(kind: type[RequestError]) -> RequestError:
    return kind("no", url="http://h")


def tally_of(*kinds: type[RequestError] | None) -> ProbeTally:
    tally = ProbeTally(P95)
    tally.add(sample(), None)  # the opening one
    for kind in kinds:
        failure = error(kind) if kind else None
        tally.add(sample(error=failure), failure)
    return tally


def batch(script: Script, *, probes: int = 10, bound_s: float = 5.0, timeout_s: float = 1.0) -> tuple[ProbeTally, int]:
    with StubServer(script) as server, EmbeddingsClient(server.endpoint, "stub", timeout_s=timeout_s) as client:
        tally = probe_batch(client, mix(1), P95, probes=probes, bound_s=bound_s, clock=SystemClock())
        return tally, len(server.requests)


def test_the_first_answer_opens_the_connection_and_is_not_counted() -> None:
    tally, sent = batch(lambda n, _texts: Reply(delay_s=0.2 if n == 0 else 0))
    assert (tally.good, tally.total, sent) == (10, 10, 11)


def test_probes_come_at_random_times_that_together_fill_the_time_given() -> None:
    paused: list[float] = []

    class Listening(SystemClock):
        def sleep(self, seconds: float) -> None:
            paused.append(seconds)

    with StubServer() as server, EmbeddingsClient(server.endpoint, "stub", timeout_s=1) as client:
        probe_batch(client, mix(1), P95, probes=200, bound_s=20, clock=Listening(), spread_s=6.0)
    assert len(paused) == 201
    assert len(set(paused)) > 150
    assert 4 < sum(paused) < 8, "about 6 s, and 10 standard deviations more"
    assert max(paused) <= 5 * 6.0 / 200


def test_a_first_failure_is_counted() -> None:
    tally, _ = batch(lambda n, _texts: Reply(status=503) if n == 0 else Reply())
    assert (tally.good, tally.total) == (9, 10)


def test_slow_and_failed_are_bad_and_cached_is_neither() -> None:
    tally = ProbeTally(P95)
    tally.add(sample(), None)
    tally.add(sample(100), None)
    tally.add(sample(200), None)
    tally.add(sample(1, cached=True), None)
    tally.add(sample(1, failure := error(ServerFault)), failure)
    assert (tally.good, tally.bad, tally.total, tally.cached) == (1, 2, 3, 1)
    assert tally.latencies_ms == [100, 200, float("inf")]
    assert dict(tally.failures) == {"server_fault": 1}


@pytest.mark.parametrize(
    ("kinds", "outage"),
    [
        pytest.param([Unreachable] * 3, True, id="nobody there"),
        pytest.param([ServerFault, BadAnswer, Unreachable], True, id="three of any kind"),
        pytest.param([Unreachable] * 2, False, id="two"),
        pytest.param([Unreachable, Unreachable, None, Unreachable], False, id="an answer between"),
        pytest.param([Refused] * 9, False, id="a server that sheds load is up"),
        pytest.param([Unreachable, Unreachable, Refused], False, id="it is up again and sheds load"),
    ],
)
def test_three_failures_in_a_row_are_an_outage(kinds: list[type[RequestError] | None], outage: bool) -> None:
    assert tally_of(*kinds).outage is outage


def test_a_rejected_key_ends_the_probing() -> None:
    with pytest.raises(Unauthorized):
        batch(lambda _n, _texts: Reply(status=401))


def test_what_an_outage_leaves_unsent_counts_as_bad() -> None:
    tally, sent = batch(lambda n, _texts: Reply() if n < 5 else Reply(fault="reset"))
    assert sent == 8
    assert (tally.good, tally.total) == (4, 10)
    assert dict(tally.failures) == {"unreachable": 3, "unsent": 3}


def test_no_text_is_sent_twice() -> None:
    with StubServer() as server, EmbeddingsClient(server.endpoint, "stub") as client:
        stream, clock = mix(1), SystemClock()
        for _ in range(3):
            probe_batch(client, stream, P95, probes=30, bound_s=5, clock=clock)
        assert len(set(server.texts)) == len(server.texts) == 93


def test_the_bound_holds_between_probes() -> None:
    clock = ManualClock()

    def answer(_n: int, _texts: list[str]) -> Reply:
        clock.advance(1.0)
        return Reply()

    with StubServer(answer) as server, EmbeddingsClient(server.endpoint, "stub") as client:
        tally, late = gather(client, mix(1), P95, enough=lambda _t: False, bound_s=5.0, clock=clock)
        assert (late, len(server.requests), tally.total) == (True, 5, 4)


def test_the_bound_holds_against_a_server_that_sends_a_byte_at_a_time() -> None:
    clock = SystemClock()
    started = clock.monotonic()
    tally, _ = batch(lambda _n, _texts: Reply(fault="trickle", delay_s=0.05), bound_s=0.4, timeout_s=60)
    assert clock.monotonic() - started < 20
    assert (tally.good, tally.total) == (0, 10)
