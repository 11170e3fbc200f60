from itertools import islice, pairwise

from slo.client import EmbeddingsClient
from slo.clock import ManualClock
from slo.errors import RequestError
from slo.measure import one_by_one
from slo.samples import Sample
from slo.texts import Text, mix
from tests.stub_server import Reply, StubServer


def test_there_is_one_sample_per_text_and_a_failure_is_one_too() -> None:
    heard: list[tuple[Sample, RequestError | None]] = []
    wanted = list(islice(mix(1), 6))
    with (
        StubServer(lambda n, _texts: Reply(status=503) if n == 2 else Reply()) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        samples = one_by_one(client, wanted, on_sample=lambda sample, error: heard.append((sample, error)))
        assert server.texts == [text.value for text in wanted]
    assert [s.outcome for s in samples] == ["ok", "ok", "server_fault", "ok", "ok", "ok"]
    assert [s.length_class for s in samples] == [text.length_class for text in wanted]
    assert [sample for sample, _ in heard] == samples
    assert [error.outcome if error else "ok" for _, error in heard] == [s.outcome for s in samples]
    assert all(a.done_s <= b.sent_s for a, b in pairwise(samples))


def test_latency_is_read_from_the_clock_that_is_given() -> None:
    clock = ManualClock(monotonic_s=100.0)

    def answer(_n: int, _texts: list[str]) -> Reply:
        clock.advance(0.25)
        return Reply()

    with StubServer(answer) as server, EmbeddingsClient(server.endpoint, "stub") as client:
        (sample,) = one_by_one(client, [Text("你好", "short")], clock=clock)
    assert (sample.due_s, sample.sent_s, sample.done_s) == (100.0, 100.0, 100.25)


def test_a_cached_answer_and_a_wrong_dimension_are_marked() -> None:
    with (
        StubServer(lambda _n, _texts: Reply(headers={"Cache-Status": "slo; hit"})) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        assert one_by_one(client, [Text("你好", "short")])[0].cached
        assert one_by_one(client, [Text("你好", "short")], dimension=9)[0].outcome == "bad_answer"
