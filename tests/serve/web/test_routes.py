"""The routes under /slo/, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from slo.serve.door.problem import not_ready
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import opened


async def test_livez_asks_nobody() -> None:
    finder = FakeFinder(m=not_ready("down"))
    async with opened(finder) as door:
        status, body = await door.get("/slo/livez")
    assert (status, body["status"]) == (200, "alive")
    assert finder.asked == []


async def test_readyz_runs_a_real_embedding_and_keeps_the_answer_for_a_second() -> None:
    replica = FakeReplica()
    async with opened(FakeFinder(m=[replica])) as door:
        answers = [await door.get("/slo/readyz") for _ in range(5)]
    assert {status for status, _ in answers} == {200}
    assert list(answers[0][1]["probe_ms"]) == ["m"]
    assert len(replica.calls) == 1


@pytest.mark.parametrize(
    "found",
    [{}, {"m": []}, {"m": [FakeReplica(behave=lambda *_: RuntimeError("kaputt"))]}],
    ids=["no model", "another engine's model", "engine raises"],
)
async def test_readyz_is_a_503_with_the_reason_otherwise(found: dict[str, Any]) -> None:
    async with opened(FakeFinder(**found)) as door:
        status, body = await door.get("/slo/readyz")
    assert status == 503
    assert body["reason"]


async def test_the_probe_of_readyz_is_not_counted_as_a_request() -> None:
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        await door.get("/slo/readyz")
        _, window = await door.get("/slo/api/window")
    assert window["total"] == 0


async def test_status_tells_what_serves() -> None:
    replica = FakeReplica(precision="int8", stand_in=True)
    async with opened(FakeFinder(m=[replica])) as door:
        await door.embed({"model": "m", "input": "a"})
        _, body = await door.get("/slo/api/status")
    assert (body["name"], body["precision"], body["stand_in"]) == ("xinference-slo", "int8", True)
    model = body["models"][0]
    assert (model["model"], model["replicas"][0]["uid"], model["cost"]["passes"]) == ("m", "rep0", 1)
    assert model["capacity"]["tokens_per_s"] > 0
    assert body["cache"]["entries"] == 1
    assert body["processes"][0]["name"] == "api"
    assert body["settings"]["admission"]["policy"] == "defer"


async def test_replicas_that_do_not_serve_are_told_with_what_keeps_them() -> None:
    finder = FakeFinder(m=[FakeReplica()])
    said = {"rep0": "READY", "rep1": "LOADING", "rep2": "ERROR", "rep3": "READY", "rep4": "TERMINATED"}
    finder.states = lambda _: said  # type: ignore[method-assign, assignment]
    async with opened(finder) as door:
        await door.embed({"model": "m", "input": "a"})
        _, body = await door.get("/slo/api/status")
    assert [replica["uid"] for replica in body["models"][0]["replicas"]] == ["rep0"]
    absent = {replica["uid"]: replica["state"] for replica in body["models"][0]["absent"]}
    assert absent == {"rep1": "loading", "rep2": "down", "rep3": "down"}


async def test_the_window_counts_by_class_code_and_stage() -> None:
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        for text in ("短", "短", "字" * 20):
            await door.embed({"model": "m", "input": text})
        await door.embed({"model": "nobody", "input": "x"})
        await door.embed({"model": "m", "input": [str(i) for i in range(40)]})
        _, body = await door.get("/slo/api/window?seconds=60")
    assert (body["total"], body["good"]) == (3, 3)
    assert body["codes"]["4xx"] == 1
    assert (body["cached"]["total"], body["computed"]["total"]) == (1, 2)
    assert {name: figures["total"] for name, figures in body["classes"].items()} == {
        "-": 0, "batch": 1, "medium": 1, "short": 2,
    }  # fmt: skip
    assert {"queue", "tokenise", "infer", "serialise"} <= set(body["stages"])
    assert body["cache"] == {"hit": 1, "miss": 42}


@pytest.mark.parametrize(
    "query",
    ["seconds=0", "seconds=3601", "seconds=x", "seconds=1.5", "seconds=nan", "threshold_ms=151", "threshold_ms=x"],
)
async def test_a_bad_question_is_a_400(query: str) -> None:
    async with opened(FakeFinder()) as door:
        status, body = await door.get(f"/slo/api/window?{query}")
    assert status == 400
    assert body["error"]["param"] == query.partition("=")[0]


async def test_metrics_are_prometheus_text() -> None:
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        await door.embed({"model": "m", "input": "a"})
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            text = await response.text()
    assert response.headers["content-type"].startswith("text/plain")
    labels = 'cache="miss",code="2xx",length_class="short",model="m",source="gateway"'
    assert f"slo_request_duration_seconds_count{{{labels}}} 1.0" in text


async def test_no_text_of_a_user_appears_anywhere() -> None:
    secret = "机密文本不可泄露"
    replica = FakeReplica(behave=lambda call, _: RuntimeError("kaputt") if call else 0.0)
    async with opened(FakeFinder(m=[replica])) as door:
        await door.embed({"model": "m", "input": secret})
        await door.embed({"model": secret, "input": secret})
        _, failed, _ = await door.embed({"model": "m", "input": secret + "!"})
        pages = [str((await door.get(path))[1]) for path in ("/slo/api/window", "/slo/api/status")]
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            pages.append(await response.text())
    assert all(secret not in page for page in [*pages, str(failed)])
