"""The probes of the watch on a real Xinference: right vectors are called right, and stay so."""

from __future__ import annotations

import pytest

from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.objective import Objective
from slo.texts import mix
from slo.watch.sli.golden import Golden
from slo.watch.sli.prober import Prober
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]


def test_the_vectors_of_a_healthy_server_are_right_round_after_round(server: Server) -> None:
    golden = Golden(server.endpoint, server.model)
    for seed in range(3):
        prober = Prober(
            lambda: EmbeddingsClient(server.endpoint, server.model, timeout_s=20, source="probe"),
            mix(seed),
            Objective(threshold_ms=20_000),
            golden,
            probes=100,
            interval_s=20.0,
            patience_s=20.0,
            clock=SystemClock(),
        )
        with prober:
            tally = prober.harvest()
        assert (tally.right, tally.looked_at, str(tally.last_error)) == (103, 103, "None")
