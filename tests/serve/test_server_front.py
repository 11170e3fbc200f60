"""The front door inside a real Xinference, with the real engine: as users and as accidents meet it."""

from __future__ import annotations

import concurrent.futures
import json
import os
import signal
import time
from typing import Any

import numpy as np
import openai
import psutil
import pytest
import requests
from xinference.client import RESTfulClient

from slo.client import EmbeddingsClient
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]

TEXTS = ["今天天气很好", "如何重置密码?", "embedding models", "混合 mixed 文本 123", "字" * 200]


def post(server: Server, **body: Any) -> requests.Response:
    return requests.post(f"{server.endpoint}/v1/embeddings", json={"model": server.model, **body}, timeout=30)


def vectors(answer: requests.Response) -> np.ndarray[Any, Any]:
    assert answer.status_code == 200, answer.text
    return np.asarray([row["embedding"] for row in answer.json()["data"]])


def status(server: Server) -> dict[str, Any]:
    data: dict[str, Any] = requests.get(f"{server.endpoint}/slo/api/status", timeout=10).json()
    return data


@pytest.mark.parametrize(
    "fields",
    [{}, {"normalize_embeddings": False}, {"prompt": "查询：", "truncate_prompt_tokens": 10}, {"prompt_name": "query"}],
    ids=str,
)
def test_vectors_and_usage_equal_those_of_xinference_as_it_comes(
    server: Server, stock_server: Server, fields: dict[str, Any]
) -> None:
    ours, theirs = post(server, input=TEXTS, **fields), post(stock_server, input=TEXTS, **fields)
    assert "Server-Timing" in ours.headers
    assert "Server-Timing" not in theirs.headers
    cosines = (vectors(ours) * vectors(theirs)).sum(axis=1)
    assert cosines.min() > 0.99, "int8 against fp32"
    assert ours.json()["usage"] == theirs.json()["usage"]


def test_a_repeat_is_a_hit_with_the_same_vector(server: Server) -> None:
    text = f"重复 {time.time_ns()}"
    with EmbeddingsClient(server.endpoint, server.model) as client:
        first, again = client.embed(text), client.embed(text)
    assert (first.cached, again.cached) == (False, True)
    assert first.vectors == again.vectors
    assert len(first.vectors[0]) == server.dimension


def test_openais_and_xinferences_own_clients_agree(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.endpoint}/v1", api_key="none") as client:
        theirs = client.embeddings.create(model=server.model, input=TEXTS)
    model = RESTfulClient(server.endpoint).get_model(server.model)
    answer = model.create_embedding(TEXTS)
    assert np.asarray([row.embedding for row in theirs.data]) == pytest.approx(
        np.asarray([row["embedding"] for row in answer["data"]]), abs=1e-6
    )


def test_kept_alive_answers_do_not_wait_for_an_acknowledgement(server: Server) -> None:
    with EmbeddingsClient(server.endpoint, server.model) as client:
        client.embed("预热")
        took = []
        for _ in range(20):
            started = time.perf_counter()
            client.embed("预热")
            took.append(time.perf_counter() - started)
    assert min(took) < 0.030, "a delayed ACK would hold back every one of them for 40 ms"


@pytest.mark.parametrize(
    ("body", "code"),
    [({"input": []}, 400), ({"input": "a", "model": "nobody"}, 404), ({"input": "a", "dimensions": 10**5}, 400)],
    ids=["empty", "unknown model", "too many dimensions"],
)
def test_mistakes_are_answered_in_openais_shape(server: Server, body: dict[str, Any], code: int) -> None:
    answer = post(server, **body)
    assert answer.status_code == code
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_service_describes_itself(server: Server) -> None:
    assert requests.get(f"{server.endpoint}/slo/readyz", timeout=30).status_code == 200
    report = status(server)
    assert report["stand_in"] is True
    assert report["models"][0]["replicas"][0]["engine"]["engine"] == "openvino"
    processes = {use["name"]: use for use in report["processes"]}
    assert processes.keys() >= {"api", "supervisor + worker", "fork server", f"{server.model}-rep0"}
    assert {use["memory_kind"] for use in processes.values()} == {"proportional"}
    resident, proportional = (
        sum(use[kind] for use in processes.values()) for kind in ("resident_bytes", "memory_bytes")
    )
    assert proportional < 0.7 * resident  # they share what they have imported
    text = requests.get(f"{server.endpoint}/slo/metrics", timeout=10).text
    assert 'le="0.15"' in text


def test_fifty_clients_at_once_get_their_own_vectors(server: Server) -> None:
    stamp = time.time_ns()
    texts = [f"并发 {stamp} {i} " + "字" * (i % 50) for i in range(200)]

    def one(text: str) -> np.ndarray[Any, Any]:
        while True:
            answer = post(server, input=text)
            if answer.status_code != 429:
                return np.asarray(vectors(answer)[0])
            time.sleep(0.05)

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        together = list(pool.map(one, texts))
    alone = vectors(post(server, input=texts, truncate_prompt_tokens=500))
    assert np.asarray(together) == pytest.approx(alone, abs=2e-3)


def test_one_huge_text_takes_little_memory_and_others_are_served_beside_it(server: Server) -> None:
    def resident() -> int:
        engine = status(server)["models"][0]["replicas"][0]["engine"]
        return int(psutil.Process(engine["pid"]).memory_info().rss)

    def raw(text: str) -> requests.Response:  # not escaped: as large as the server lets it be
        body = json.dumps({"model": server.model, "input": text}, ensure_ascii=False).encode()
        return requests.post(f"{server.endpoint}/v1/embeddings", data=body, timeout=30)

    huge = ["字" * 1_300_000, "the quick brown fox " * 190_000]
    vectors(post(server, input="warm"))
    before = resident()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(raw, f"{time.time_ns()} {text}") for text in huge * 2]
        beside = [pool.submit(post, server, input=f"旁边 {time.time_ns()} {i}") for i in range(20)]
        assert {answer.result().status_code for answer in answers} <= {200, 429}
        assert {answer.result().status_code for answer in beside} <= {200, 429}
    assert resident() - before < 200 * 2**20
    short = vectors(post(server, input=huge[0][:2000]))
    while (answer := raw(huge[0])).status_code == 429:  # a busy machine
        time.sleep(0.2)
    assert vectors(answer)[0] == pytest.approx(short[0], abs=2e-3)


def test_a_hung_model_process_is_ended_and_serves_again_without_a_person(server: Server) -> None:
    pid = status(server)["models"][0]["replicas"][0]["engine"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    answer = post(server, input=f"{time.time_ns()}")
    deadline = time.monotonic() + 120  # 15 s on a quiet machine
    refused = []
    while time.monotonic() < deadline:
        answer = post(server, input=f"{time.time_ns()}")
        if answer.status_code == 200:
            break
        refused.append(answer)
        time.sleep(0.2)
    assert answer.status_code == 200
    assert {each.status_code for each in refused} <= {429, 503}
    assert all(int(each.headers["Retry-After"]) >= 1 for each in refused)
    assert any(each.status_code == 503 for each in refused)
    assert status(server)["models"][0]["replicas"][0]["engine"]["pid"] != pid
    assert not psutil.pid_exists(pid)
    log = server.log.read_text(encoding="utf-8", errors="replace")
    assert "is ended and started anew: no sign of life" in log


def test_a_killed_model_process_is_never_a_hang_and_serves_again(server: Server) -> None:
    pid = status(server)["models"][0]["replicas"][0]["engine"]["pid"]
    os.kill(pid, signal.SIGKILL)
    codes: list[int] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        started = time.monotonic()
        answer = post(server, input=f"{time.time_ns()}")
        codes.append(answer.status_code)
        assert time.monotonic() - started < 25, "30 s are the client's patience"
        if answer.status_code == 200 and 503 in codes:
            break
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.2)
    assert codes[-1] == 200
    assert set(codes) <= {200, 503}
    assert status(server)["models"][0]["replicas"][0]["engine"]["pid"] != pid
