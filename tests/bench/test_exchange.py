"""Statuses mean here what they mean in `slo.client`."""

from __future__ import annotations

import pytest

from slo.bench.exchange import OK, Exchange, outcome_of
from slo.client import EmbeddingsClient
from slo.errors import RequestError
from tests.stub_server import Reply, StubServer

STATUSES = [200, 301, 400, 401, 403, 404, 408, 413, 422, 429, 451, 500, 502, 503, 504, 599]


def test_outcomes_agree_with_the_client() -> None:
    found = []
    with (
        StubServer(script=lambda n, _texts: Reply(status=STATUSES[n])) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        for _ in STATUSES:
            try:
                client.embed("你好")
                found.append(OK)
            except RequestError as error:
                found.append(error.outcome)
    assert found == [outcome_of(status) for status in STATUSES]


def test_latency_counts_from_the_due_moment_and_service_from_the_sending() -> None:
    exchange = Exchange(b"", "short")
    exchange.due_s, exchange.sent_s, exchange.done_s, exchange.outcome = 1.0, 1.5, 2.0, OK
    sample = exchange.sample()
    assert exchange.finished
    assert (sample.latency_ms, sample.service_ms) == pytest.approx((1000.0, 500.0))
