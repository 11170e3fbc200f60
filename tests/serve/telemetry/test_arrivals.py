"""Live traffic is remembered by times and lengths alone, in bounded memory, and can be replayed."""

from __future__ import annotations

import json

import pytest

from slo.serve.telemetry.arrivals import ArrivalLog, trace_text
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import KEY, opened


def test_requests_are_remembered_in_order_of_arrival() -> None:
    found = ArrivalLog()
    found.note(2.0, ["你好"])
    found.note(1.0, ["a", "bcd"])  # parsed later, since its body was longer
    assert found.since(0.0) == ([(1.0, (1, 3)), (2.0, (2,))], True)
    assert found.since(1.5) == ([(2.0, (2,))], True)


@pytest.mark.parametrize(("requests", "texts"), [(10, 10**6), (10**6, 30)], ids=["by requests", "by texts"])
def test_the_oldest_go_when_there_are_too_many_and_it_is_said(requests: int, texts: int) -> None:
    found = ArrivalLog(requests=requests, texts=texts)
    for moment in range(100):
        found.note(float(moment), ["a", "b", "c"])
    rows, complete = found.since(0.0)
    assert [moment for moment, _ in rows] == [float(n) for n in range(90, 100)]
    assert not complete
    assert found.since(90.0)[1]


def test_a_trace_holds_a_header_and_times_from_the_first_on() -> None:
    header, *rows = map(json.loads, trace_text([(5.0, (3,)), (5.25, (1, 2))], seconds=60, complete=True).splitlines())
    assert (header["format"], header["kind"], header["requests"]) == (1, "arrivals", 2)
    assert rows == [{"t": 0.0, "chars": [3]}, {"t": 0.25, "chars": [1, 2]}]


async def test_the_server_tells_what_users_sent_and_never_their_texts() -> None:
    secret = "只有用户知道的一句话"
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        for text in (secret, [secret, "x"], secret):  # the last one is answered by the cache, and counts as demand
            assert (await door.embed({"model": "m", "input": text}))[0] == 200
        await door.embed({"model": "m", "input": []})
        await door.get("/slo/readyz")
        async with door.http.get(f"{door.url}/slo/api/arrivals?seconds=60") as response:
            body = await response.text()
        status, _ = await door.get("/slo/api/arrivals?seconds=0")
    assert [json.loads(line)["chars"] for line in body.splitlines()[1:]] == [[10], [10, 1], [10]]
    assert secret not in body
    assert status == 400


async def test_it_needs_a_key_where_data_does() -> None:
    async with opened(FakeFinder(m=[FakeReplica()]), auth=True) as door:
        async with door.http.get(f"{door.url}/slo/api/arrivals") as response:
            assert response.status == 401
        async with door.http.get(f"{door.url}/slo/api/arrivals", headers={"Authorization": f"Bearer {KEY}"}) as found:
            assert found.status == 200
