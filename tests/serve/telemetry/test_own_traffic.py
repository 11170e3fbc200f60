"""What the toolkit itself sends is counted apart: never as users' requests, and shown all the same."""

from __future__ import annotations

import json

import pytest

from slo.bench.wire import target
from slo.client import EmbeddingsClient
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import parse_goal
from slo.watch.sli.scrape import parse_exposition
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import opened
from tests.stub_server import StubServer

AVAILABILITY = parse_goal("availability", "errors <= 0.2%")


@pytest.mark.parametrize("short", [True, False], ids=["short way", "long way"])
async def test_probes_and_measurements_are_no_users_and_their_figures_are_shown(short: bool) -> None:
    fails = FakeReplica(behave=lambda *_: RuntimeError("kaputt"))
    async with opened(FakeFinder(m=[FakeReplica()], broken=[fails]), short=short) as door:
        for number, source in enumerate(["probe", "probe", "bench", "someone", ""]):
            headers = {"x_slo_source": source} if source else {}
            await door.embed({"model": "m", "input": f"text {number}"}, **headers)
        await door.embed({"model": "broken", "input": "text"}, x_slo_source="probe")
        _, window = await door.get("/slo/api/window")
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            page = await response.text()
        async with door.http.get(f"{door.url}/slo/api/arrivals") as response:
            arrivals = (await response.text()).splitlines()
    assert (window["total"], window["good"]) == (2, 2)
    assert window["own"]["probe"]["codes"] == {"2xx": 2, "4xx": 0, "429": 0, "5xx": 1, "timeout": 0, "gone": 0}
    assert (window["own"]["bench"]["total"], window["own"]["bench"]["good"]) == (1, 1)
    minute = parse_exposition(page, model="m", url="u").minute(start_s=0, source="passive")
    assert minute.counts(AVAILABILITY) == Counts(2, 2)
    broken = parse_exposition(page, model="broken", url="u").minute(start_s=0, source="passive")
    assert broken.total == 0
    own = 'slo_own_request_duration_seconds_count{cache="miss",code="5xx",length_class="short",model="broken",'
    assert own + 'source="probe"} 1.0' in page
    assert json.loads(arrivals[0])["requests"] == 2


def test_every_client_of_ours_says_what_it_is() -> None:
    with StubServer() as server:
        for source in ("probe", "bench", None):
            with EmbeddingsClient(server.endpoint, "stub", source=source) as client:
                client.embed("a text")
        assert [request.headers.get("x-slo-source") for request in server.requests] == ["probe", "bench", None]
    assert b"\r\nX-SLO-Source: bench\r\n" in target("http://127.0.0.1:1", "m").head()
