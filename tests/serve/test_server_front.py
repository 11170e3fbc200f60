"""The front door inside a real Xinference, with the real engine: as users and as accidents meet it."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import time
from typing import Any

import numpy as np
import openai
import pytest
import requests
from xinference.client import RESTfulClient

from slo.client import EmbeddingsClient
from tests.servers import Server

pytestmark = pytest.mark.server

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
    assert sorted(took)[10] < 0.030  # a delayed ACK alone is 40 ms


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


def test_a_killed_model_process_is_never_a_hang_and_serves_again(server: Server) -> None:
    pid = status(server)["models"][0]["replicas"][0]["engine"]["pid"]
    os.kill(pid, signal.SIGKILL)
    codes: list[int] = []
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        started = time.monotonic()
        answer = post(server, input=f"{time.time_ns()}")
        codes.append(answer.status_code)
        assert time.monotonic() - started < 15
        if answer.status_code == 200 and 503 in codes:
            break
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(0.2)
    assert codes[-1] == 200
    assert set(codes) <= {200, 503}
    assert status(server)["models"][0]["replicas"][0]["engine"]["pid"] != pid
