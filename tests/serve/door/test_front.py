"""The front door over HTTP, both ways in: what clients send, and what they get."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import MutableMapping
from typing import Any

import numpy as np
import openai
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slo.serve.door.batcher import Embedded, ReplicaLost
from slo.serve.door.cache import Cache
from slo.serve.door.call import Call
from slo.serve.door.directory import Directory
from slo.serve.door.front import Front
from slo.serve.door.gate import Gate
from slo.serve.door.problem import not_ready
from slo.serve.telemetry.telemetry import Telemetry
from slo.settings_serve import ServeSection
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import parse_goal
from slo.watch.sli.scrape import parse_exposition
from slo.watch.sli.sources import TRUNCATED
from tests.serve.fakes import DIMENSIONS, FakeFinder, FakeReplica, counted_turns, vector_of
from tests.serve.http_door import KEY, Door, opened

WAYS = pytest.mark.parametrize("short", [True, False], ids=["short way", "long way"])


def section(**parts: dict[str, Any]) -> ServeSection:
    return ServeSection.model_validate(parts)


def rows(answer: dict[str, Any]) -> list[list[float]]:
    return [row["embedding"] for row in answer["data"]]


def is_vector(values: list[float], text: str) -> bool:
    return np.asarray(values, dtype="<f4").tobytes() == vector_of(text).tobytes()


@WAYS
async def test_a_text_gets_its_vector_in_openais_shape(short: bool) -> None:
    async with opened(FakeFinder(m=[FakeReplica()]), short=short) as door:
        status, body, headers = await door.embed({"model": "m", "input": "你好", "user": "u"})
    assert status == 200
    assert set(body) == {"object", "model", "data", "usage"}
    assert (body["object"], body["model"]) == ("list", "m")
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert body["data"][0]["index"] == 0
    assert body["data"][0]["object"] == "embedding"
    assert is_vector(rows(body)[0], "你好")
    assert headers["cache-status"] == "xinference-slo; fwd=miss"
    assert "infer;dur=" in headers["server-timing"]
    assert headers["x-request-id"] if short else True


@WAYS
async def test_many_texts_keep_their_order_and_duplicates_are_computed_once(short: bool) -> None:
    replica = FakeReplica()
    texts = ["b", "a", "b", "c", "a"]
    async with opened(FakeFinder(m=[replica]), short=short) as door:
        _, body, _ = await door.embed({"model": "m", "input": texts})
    assert [row["index"] for row in body["data"]] == list(range(5))
    assert all(is_vector(values, text) for values, text in zip(rows(body), texts, strict=True))
    assert sorted(text for call in replica.calls for text in call) == ["a", "b", "c"]
    assert body["usage"]["total_tokens"] == 15


async def test_base64_and_dimensions_are_openais() -> None:
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        _, coded, _ = await door.embed({"model": "m", "input": "a", "encoding_format": "base64"})
        _, cut, _ = await door.embed({"model": "m", "input": "a", "dimensions": 3})
        _, both, _ = await door.embed({"model": "m", "input": "a", "dimensions": 3, "encoding_format": "base64"})
        status, error, _ = await door.embed({"model": "m", "input": "a", "dimensions": DIMENSIONS + 1})
    assert base64.b64decode(coded["data"][0]["embedding"]) == vector_of("a").tobytes()
    expected = vector_of("a")[:3] / np.linalg.norm(vector_of("a")[:3])
    assert rows(cut)[0] == pytest.approx(expected.tolist(), abs=1e-6)
    assert np.frombuffer(base64.b64decode(both["data"][0]["embedding"]), "<f4") == pytest.approx(expected, abs=1e-6)
    assert (status, error["error"]["param"]) == (400, "dimensions")


async def test_a_repeated_text_comes_from_the_cache() -> None:
    replica = FakeReplica()
    async with opened(FakeFinder(m=[replica])) as door:
        _, first, _ = await door.embed({"model": "m", "input": "a"})
        _, again, headers = await door.embed({"model": "m", "input": "a"})
        _, _, partly = await door.embed({"model": "m", "input": ["a", "b"]})
    assert first == again
    assert replica.calls == [["a"], ["b"]]
    assert headers["cache-status"] == "xinference-slo; hit"
    assert partly["cache-status"] == 'xinference-slo; fwd=miss; detail="1 of 2 known"'


@WAYS
async def test_no_cache_has_a_known_text_computed_again(short: bool) -> None:
    replica = FakeReplica()
    async with opened(FakeFinder(m=[replica]), short=short) as door:
        await door.embed({"model": "m", "input": "a"})
        _, _, headers = await door.embed({"model": "m", "input": "a"}, Cache_Control="no-cache")
    assert replica.calls == [["a"], ["a"]]
    assert headers["cache-status"] == "xinference-slo; fwd=miss"


async def test_the_cache_can_be_switched_off() -> None:
    replica = FakeReplica()
    async with opened(FakeFinder(m=[replica]), section(cache={"enabled": False})) as door:
        for _ in range(2):
            _, _, headers = await door.embed({"model": "m", "input": "a"})
    assert replica.calls == [["a"], ["a"]]
    assert headers["cache-status"] == "xinference-slo; fwd=bypass"


async def test_an_over_long_text_is_cut_or_refused_as_asked() -> None:
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        status, body, _ = await door.embed({"model": "m", "input": "字" * 600})
        refused, error, _ = await door.embed({"model": "m", "input": ["a", "字" * 600], "truncate": False})
    assert (status, body["usage"]["total_tokens"]) == (200, 512)
    assert (refused, error["error"]["code"]) == (400, "too_long")
    assert "input[1]" in error["error"]["message"]
    assert "last 90 characters" in error["error"]["message"]


async def test_what_was_cut_is_said_and_counted_also_when_it_comes_from_the_cache() -> None:
    texts = ["字" * 600, "短", "词" * 700]
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        answers = [await door.embed({"model": "m", "input": texts}) for _ in range(2)]
        _, _, whole = await door.embed({"model": "m", "input": "短"})
        await door.embed({"model": "m", "input": texts}, X_SLO_Source="probe")
        _, window = await door.get("/slo/api/window?seconds=300")
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            page = await response.text()
    assert [headers["x-slo-truncated"] for _, _, headers in answers] == ["texts=2, characters=280"] * 2
    assert "x-slo-truncated" not in whole
    assert window["truncated"] == {"texts": 4, "characters": 560}, "of users alone"
    reading = parse_exposition(page, model="m", url="here")
    assert reading.other[TRUNCATED] == 4


async def test_a_limit_of_tokens_is_kept_by_any_replica_that_answers() -> None:
    gone, there = FakeReplica("rep0", port=1), FakeReplica("rep1", port=2)
    gone.lost = True
    body = {"model": "m", "input": ["abcdef", "xy"], "truncate_prompt_tokens": 3, "prompt": "> "}
    async with opened(FakeFinder(m=[gone, there])) as door:
        _, answer, _ = await door.embed(body)
        there.lost = True
        status, error, headers = await door.embed(body)
    assert is_vector(rows(answer)[0], "> abc")
    assert is_vector(rows(answer)[1], "> xy")
    assert (status, error["error"]["code"]) == (503, "model_not_ready")
    assert headers["retry-after"]


BAD_BODIES: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 400),
    "cut": (b'{"model":', 400),
    "list": (b"[]", 400),
    "bad utf-8": (b'{"model":"m","input":"\xff"}', 400),
    "lone surrogate": (b'{"model":"m","input":"\\ud800"}', 400),
    "deep": (b'{"model":"m","input":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "no model": (b'{"input":"a"}', 400),
    "no input": (b'{"model":"m"}', 400),
    "empty input": (b'{"model":"m","input":""}', 400),
    "empty list": (b'{"model":"m","input":[]}', 400),
    "token ids": (b'{"model":"m","input":[[1,2]]}', 400),
    "too many": (orjson.dumps({"model": "m", "input": ["a"] * 9}), 400),
    "unknown model": (b'{"model":"nobody","input":"a"}', 404),
    "loading model": (b'{"model":"loading","input":"a"}', 503),
    "too large": (orjson.dumps({"model": "m", "input": "a" * 200_000}), 413),
}


@WAYS
@pytest.mark.parametrize(("body", "status"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_answered_in_openais_error_shape(body: bytes, status: int, short: bool) -> None:
    finder = FakeFinder(m=[FakeReplica()], loading=not_ready("the model 'loading' is loading", retry_after_s=10))
    async with opened(finder, section(limits={"max_body": 150_000, "max_inputs": 8}), short=short) as door:
        got, raw = await door.post(body)
    error = orjson.loads(raw)["error"]
    assert got == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


async def test_a_body_without_announced_length_is_cut_off_too() -> None:
    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 10_000

    async with (
        opened(FakeFinder(m=[FakeReplica()]), section(limits={"max_body": 50_000})) as door,
        door.http.post(f"{door.url}/v1/embeddings", data=endless()) as response,
    ):
        assert response.status == 413


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.binary(max_size=60)
        | st.dictionaries(
            st.sampled_from(["model", "input", "dimensions", "encoding_format", "user", "truncate"]),
            st.sampled_from(["m", "float", "base64", "", 0, -1, 4, 99, None, True, [], ["a"], [1], {"x": 1}, 1e300]),
        ).map(lambda data: orjson.dumps({"model": "m", "input": "a", **data})),
        min_size=20,
        max_size=40,
    )
)
def test_no_body_gets_a_server_error(bodies: list[bytes]) -> None:
    async def run() -> list[int]:
        async with opened(FakeFinder(m=[FakeReplica()])) as door:
            return [(await door.post(body))[0] for body in bodies]

    assert set(asyncio.run(run())) <= {200, 400, 404}


@WAYS
async def test_a_model_of_another_engine_is_left_to_the_built_in_handler(short: bool) -> None:
    body = b'{"model": "foreign", "input": {"image": "..."}}'
    async with opened(FakeFinder(foreign=[]), section(limits={"max_body": 1024}), short=short) as door:
        assert await door.post(body) == (200, b"built in")
        large = b'{"model": "foreign", "input": "' + b"x" * 2000 + b'"}'
        assert await door.post(large) == (200, b"built in")
        assert door.host.built_in == [body, large]


@WAYS
@pytest.mark.parametrize("announced", [True, False], ids=["length announced", "chunked"])
async def test_the_first_request_to_another_engines_model_may_exceed_our_limit(announced: bool, short: bool) -> None:
    large = b'{"model": "foreign", "input": "' + b"x" * 5000 + b'"}'

    async def pieces() -> Any:
        for start in range(0, len(large), 50):
            yield large[start : start + 50]

    finder = FakeFinder(m=[FakeReplica()], foreign=[])
    async with opened(finder, section(limits={"max_body": 1024}), short=short) as door:
        body = large if announced else pieces()
        async with door.http.post(f"{door.url}/v1/embeddings", data=body) as response:
            assert (response.status, await response.read()) == (200, b"built in")
        assert door.host.built_in == [large]
        assert (await door.post(large.replace(b"foreign", b"m")))[0] == 413


async def test_names_that_only_clients_know_make_no_request_dearer() -> None:
    async def count() -> int:
        calls = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += 1

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b'{"model":"m","input":"a"}'}

        async def send(message: MutableMapping[str, Any]) -> None:
            assert message.get("status", 200) == 200

        scope = {"type": "http", "path": "/v1/embeddings", "method": "POST", "headers": []}
        sys.setprofile(note)
        try:
            await gate(scope, receive, send)
        finally:
            sys.setprofile(None)
        return calls

    # A clock that stands: the first request of a second costs a few calls more.
    settings, telemetry, cache = ServeSection(), Telemetry(lambda: 1000.0), Cache(10_000)
    known = Directory(FakeFinder(m=[FakeReplica()], foreign=[]), settings, cache, telemetry)
    front = Front(settings, known, cache, telemetry)
    gate = Gate(None, front=front, telemetry=telemetry, short=True)  # type: ignore[arg-type]
    for _ in range(2):  # the second is a hit
        await count()
    before = await count()
    for index in range(600):
        await asyncio.gather(known.lane(f"nobody{index}"), return_exceptions=True)
    assert await count() <= before + 5


class Unfrank(FakeReplica):
    """Spends time of which it says nothing, as the way to another process does."""

    async def embed(self, texts: list[str]) -> Embedded:
        packed, tokens, unread, _ = await super().embed(texts)
        return packed, tokens, unread, {"tokenise": 0.1, "infer": 1.0, "finish": 0.1, "wait": 0.0}


async def test_server_timing_explains_every_millisecond() -> None:
    def explained(headers: dict[str, str]) -> set[str]:
        parts = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
        stages = {name: float(value) for name, value in parts.items() if name not in ("total", "upload")}
        assert sum(stages.values()) == pytest.approx(float(parts["total"]), abs=0.06)  # what rounding leaves
        return {name for name, value in stages.items() if value >= 5}

    async with opened(FakeFinder(m=[Unfrank(behave=lambda *_: 0.03)])) as door:
        _, _, computed = await door.embed({"model": "m", "input": "a"})
        assert "call" in explained(computed)
        _, _, hit = await door.embed({"model": "m", "input": "a"})
        assert "call;" not in hit["server-timing"]
        explained(hit)
        first = asyncio.ensure_future(door.embed({"model": "m", "input": "b"}))
        await asyncio.sleep(0.01)
        _, _, second = await door.embed({"model": "m", "input": "b"})
        explained((await first)[2])
        assert "joined;" in second["server-timing"]
        explained(second)
        _, _, many = await door.embed({"model": "m", "input": [f"text {i}" for i in range(300)]})
        assert "queue" in explained(many)


async def test_without_a_key_there_is_nothing_and_the_access_list_holds() -> None:
    async with opened(FakeFinder(m=[FakeReplica()], secret=[FakeReplica()]), auth=True) as door:
        door.host.denied.add("secret")
        body = {"model": "m", "input": "a"}
        assert (await door.embed(body))[0] == 401
        assert (await door.embed(body, Authorization="Bearer wrong"))[0] == 401
        assert (await door.embed(body, Authorization=f"Bearer {KEY}"))[0] == 200
        assert (await door.embed({**body, "model": "secret"}, Authorization=f"Bearer {KEY}"))[0] == 403
        assert (await door.get("/slo/api/window"))[0] == 401
        assert (await door.get("/slo/api/status"))[0] == 401
        assert (await door.get("/slo/livez"))[0] == 200


async def test_overload_is_refused_at_once_with_advice() -> None:
    replica = FakeReplica(behave=lambda _, texts: 0.02 + 0.04 * len(texts))
    settings_ = section(admission={"policy": "shed"}, batch={"max_tokens": 64})
    async with opened(FakeFinder(m=[replica]), settings_) as door:
        await door.embed({"model": "m", "input": "warm"})
        answers = await asyncio.gather(*(door.embed({"model": "m", "input": f"第{i}句话"}) for i in range(120)))
        for _ in range(100):  # the last pass still runs, for callers who have gone
            again, _, _ = await door.embed({"model": "m", "input": "after"})
            if again == 200:
                break
            await asyncio.sleep(0.1)
    codes = [status for status, _, _ in answers]
    assert set(codes) == {200, 429}
    refused = [(body, headers) for status, body, headers in answers if status == 429]
    assert refused[0][0]["error"]["type"] == "rate_limit_error"
    assert all(float(headers["x-slo-predicted-wait-ms"]) > 0 for _, headers in refused)
    assert all(int(h["retry-after"]) == -(-int(h["retry-after-ms"]) // 1000) for _, h in refused)
    assert again == 200


async def test_by_default_what_cannot_be_in_time_is_deferred_and_answered() -> None:
    replica = FakeReplica(behave=lambda _, texts: 0.02 + 0.01 * len(texts))
    async with opened(FakeFinder(m=[replica]), section(batch={"max_tokens": 64})) as door:
        await door.embed({"model": "m", "input": "warm"})
        answers = await asyncio.gather(*(door.embed({"model": "m", "input": f"第{i}句话"}) for i in range(120)))
        _, window = await door.get("/slo/api/window?seconds=60")
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            page = await response.text()
    assert {status for status, _, _ in answers} == {200}
    assert window["deferred"] > 60
    assert window["total"] == 121
    assert 0 < window["good"] < 60, "what came late counts as late"
    assert f"slo_deferred_requests_total {window['deferred']}" in page.replace(".0\n", "\n")


async def test_policy_queue_lets_everybody_wait() -> None:
    replica = FakeReplica(behave=lambda *_: 0.02)
    settings_ = section(admission={"policy": "queue"}, batch={"max_tokens": 64})
    async with opened(FakeFinder(m=[replica]), settings_) as door:
        answers = await asyncio.gather(*(door.embed({"model": "m", "input": f"第{i}句话"}) for i in range(120)))
    assert {status for status, _, _ in answers} == {200}


async def test_a_deadline_of_ones_own_is_held_and_a_bad_one_is_a_400() -> None:
    replica = FakeReplica(behave=lambda *_: 0.2)
    async with opened(FakeFinder(m=[replica])) as door:
        first = asyncio.create_task(door.embed({"model": "m", "input": "first"}))
        await asyncio.sleep(0.05)
        tight, body, _ = await door.embed({"model": "m", "input": "x"}, X_SLO_Deadline_Ms="30")
        bad, error, _ = await door.embed({"model": "m", "input": "y"}, X_SLO_Deadline_Ms="soon")
        assert (await first)[0] == 200
    assert (tight, body["error"]["type"]) == (429, "rate_limit_error")
    assert (bad, error["error"]["param"]) == (400, "X-SLO-Deadline-Ms")


async def test_a_silent_engine_ends_in_a_503() -> None:
    replica = FakeReplica(behave=lambda *_: 60.0)
    async with opened(FakeFinder(m=[replica]), section(admission={"request_timeout": 0.2})) as door:
        status, body, headers = await door.embed({"model": "m", "input": "a"})
        _, window = await door.get("/slo/api/window?seconds=60")
    assert (status, body["error"]["code"]) == (503, "timeout")
    assert headers["retry-after"] == "1"
    assert window["codes"]["timeout"] == 1


async def test_a_killed_replica_is_replaced_by_its_successor_and_nobody_notices() -> None:
    finder = FakeFinder(m=[FakeReplica(port=1, behave=lambda call, _: ReplicaLost("gone") if call == 1 else 0.0)])
    async with opened(finder) as door:
        assert (await door.embed({"model": "m", "input": "a"}))[0] == 200
        finder.found["m"] = [FakeReplica(port=2)]
        status, body, _ = await door.embed({"model": "m", "input": "b"})
    assert status == 200
    assert is_vector(rows(body)[0], "b")


async def test_a_model_without_successor_is_a_503_at_once_and_serves_again_when_it_is_back() -> None:
    finder = FakeFinder(m=[FakeReplica(behave=lambda call, _: ReplicaLost("gone") if call else 0.0)])
    async with opened(finder) as door:
        await door.embed({"model": "m", "input": "a"})
        finder.found["m"] = not_ready("recovering")
        codes = [(await door.embed({"model": "m", "input": f"b{i}"}))[0] for i in range(3)]
        finder.found["m"] = [FakeReplica(port=2)]
        await asyncio.sleep(0.55)
        back = await door.embed({"model": "m", "input": "c"})
    assert codes == [503] * 3
    assert back[0] == 200


async def test_what_a_model_refuses_while_it_is_down_is_counted_as_its_own_failure() -> None:
    finder = FakeFinder(m=[FakeReplica(behave=lambda call, _: ReplicaLost("gone") if call else 0.0)])
    async with opened(finder) as door:
        await door.embed({"model": "m", "input": "a"})
        finder.found["m"] = not_ready("recovering")
        codes = [(await door.embed({"model": "m", "input": "b" * 20}))[0] for _ in range(3)]
        codes.append((await door.embed({"model": "m", "input": ["many"] * 17}))[0])
        codes.append((await door.embed({"model": "m", "input": []}))[0])
        unknown = [(await door.embed({"model": f"nobody{i}", "input": "b"}))[0] for i in range(3)]
        _, window = await door.get("/slo/api/window?seconds=60")
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            page = await response.text()
    assert (codes, unknown) == ([503] * 5, [404] * 3)
    assert window["codes"] == {"2xx": 1, "4xx": 3, "429": 0, "5xx": 4, "timeout": 0, "gone": 0}
    assert window["availability"] == {"total": 6, "good": 1}, "the bulk request that failed, too"
    assert window["excluded"]["batch"] == 1
    assert window["classes"]["medium"]["codes"]["5xx"] == 3
    assert window["classes"]["batch"]["codes"]["5xx"] == 1
    minute = parse_exposition(page, model="m", url=door.url).minute(start_s=0, source="passive")
    assert minute.outcomes == {"server_fault": 4, "batch_failed": 1}
    assert minute.counts(parse_goal("availability", "errors <= 0.2%")) == Counts(1, 6)
    assert minute.counts(parse_goal("latency", "p95 <= 150ms")) == Counts(1, 5)
    assert "nobody0" not in page


async def test_others_have_their_turn_while_a_large_answer_is_written() -> None:
    settings_, cache, telemetry = section(), Cache(2**20), Telemetry()
    directory = Directory(FakeFinder(m=[FakeReplica()]), settings_, cache, telemetry)
    front = Front(settings_, directory, cache, telemetry)
    texts = [f"t{index}" for index in range(1000)]
    body = orjson.dumps({"model": "m", "input": texts})
    await front.answer(Call(body, telemetry.now()))
    async with counted_turns() as turns:
        reply, _ = await front.answer(Call(body, telemetry.now()))  # from the cache: nothing to wait for
    assert reply is not None
    assert [row["index"] for row in orjson.loads(reply.body)["data"]] == list(range(1000))
    assert turns[0] >= 10
    await directory.close()


async def test_a_name_of_any_length_is_neither_kept_nor_asked_for() -> None:
    finder = FakeFinder(m=[FakeReplica()])
    async with opened(finder) as door:
        status, body, _ = await door.embed({"model": "x" * 1_000_000, "input": "a"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    assert len(body["error"]["message"]) < 200
    assert finder.asked == []


async def test_other_weights_are_never_answered_from_the_old_cache() -> None:
    finder = FakeFinder(m=[FakeReplica(behave=lambda call, _: ReplicaLost("gone") if call else 0.0)])
    fresh = FakeReplica(port=2, fingerprint="w2")
    async with opened(finder) as door:
        await door.embed({"model": "m", "input": "a"})
        finder.found["m"] = [fresh]
        await door.embed({"model": "m", "input": "notices"})
        _, _, headers = await door.embed({"model": "m", "input": "a"})
    assert headers["cache-status"] == "xinference-slo; fwd=miss"
    assert ["a"] in fresh.calls


async def test_a_client_that_leaves_takes_its_text_out_of_the_queue() -> None:
    replica = FakeReplica(behave=lambda *_: 0.15)
    settings_ = section(admission={"policy": "queue"})
    async with opened(FakeFinder(m=[replica]), settings_) as door:
        waiting = [asyncio.create_task(door.embed({"model": "m", "input": f"keep{i}"})) for i in range(2)]
        await asyncio.sleep(0.03)
        leaver = asyncio.create_task(door.embed({"model": "m", "input": "leaver"}))
        await asyncio.sleep(0.02)
        leaver.cancel()
        await asyncio.gather(*waiting)
        await asyncio.sleep(0.1)
        _, window = await door.get("/slo/api/window")
    assert window["rejected"].get("client_gone") == 1 or ["leaver"] in replica.calls
    assert window["total"] == 2


async def test_a_client_that_gives_up_after_the_deadline_is_bad_and_one_that_leaves_earlier_is_shown_as_excluded() -> (
    None
):
    replica = FakeReplica(behave=lambda *_: 0.6)
    async with opened(FakeFinder(m=[replica])) as door:
        await door.embed({"model": "m", "input": "warm"})
        clients = [asyncio.create_task(door.embed({"model": "m", "input": [f"{i}"] * n})) for i, n in ((1, 1), (2, 17))]
        await asyncio.sleep(0.3)
        for client in clients:
            client.cancel()
        await asyncio.sleep(0.5)
        early = asyncio.create_task(door.embed({"model": "m", "input": "early"}))
        await asyncio.sleep(0.08)
        early.cancel()
        _, writer = await asyncio.open_connection("127.0.0.1", door.host._port)
        writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.sleep(0.1)
        _, window = await door.get("/slo/api/window?seconds=60")
        async with door.http.get(f"{door.url}/slo/metrics") as response:
            page = await response.text()
    assert (window["codes"]["2xx"], window["codes"]["gone"]) == (1, 1)
    assert (window["total"], window["good"]) == (2, 0)
    assert window["rejected"]["client_gone"] == 3
    assert window["excluded"] == {"caller_erred": 0, "batch": 0, "client_gone": 2, "upload_broken_off": 1}
    assert 'slo_excluded_requests_total{reason="client_gone"} 2.0' in page
    minute = parse_exposition(page, model="m", url=door.url).minute(start_s=0, source="passive")
    assert minute.counts(parse_goal("availability", "errors <= 0.2%")) == Counts(1, 2)


async def test_openais_own_client_is_served() -> None:
    async with opened(FakeFinder(m=[FakeReplica()])) as door:
        client = openai.AsyncOpenAI(base_url=f"{door.url}/v1", api_key="x", max_retries=0)
        answer = await client.embeddings.create(model="m", input=["你好", "b"])
        floats = await client.embeddings.create(model="m", input="你好", encoding_format="float", dimensions=4)
        with pytest.raises(openai.BadRequestError) as bad:
            await client.embeddings.create(model="m", input=[])
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="nobody", input="a")
        await client.close()
    assert is_vector(answer.data[0].embedding, "你好")
    assert is_vector(answer.data[1].embedding, "b")
    assert len(floats.data[0].embedding) == 4
    assert answer.usage.total_tokens == 7
    assert bad.value.param == "input"


async def test_a_hundred_clients_each_get_their_own_vectors() -> None:
    replicas = [FakeReplica(f"rep{i}", port=i, behave=lambda *_: 0.002) for i in range(2)]
    settings_ = section(admission={"policy": "queue"})

    async def client(door: Door, number: int) -> None:
        for turn in range(5):
            texts = [f"{number}-{turn}-{i}" for i in range(1 + number % 3)]
            status, body, _ = await door.embed({"model": "m", "input": texts})
            assert status == 200
            assert all(is_vector(values, text) for values, text in zip(rows(body), texts, strict=True))
            assert body["usage"]["total_tokens"] == sum(len(text) + 2 for text in texts)

    async with opened(FakeFinder(m=replicas), settings_) as door:
        await asyncio.gather(*(client(door, number) for number in range(100)))
    assert all(replica.calls for replica in replicas)
