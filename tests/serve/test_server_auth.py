"""With Xinference's authentication on: the front door is behind it, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from scripts.bench_ceiling import MODEL, server
from slo.client import ApiKey, EmbeddingsClient
from slo.errors import Unauthorized

pytestmark = pytest.mark.server
BODY = {"model": MODEL, "input": "你好"}


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[str, str]]:
    """Address and API key of a server with the null engine."""
    with server(auth=True) as (endpoint, key):
        assert key is not None
        yield endpoint, key


def test_no_key_and_a_wrong_key_are_401_and_the_right_one_is_served(guarded: tuple[str, str]) -> None:
    endpoint, key = guarded
    url = f"{endpoint}/v1/embeddings"
    assert requests.post(url, json=BODY, timeout=10).status_code == 401
    assert requests.post(url, json=BODY, timeout=10, headers={"Authorization": "Bearer xf-wrong"}).status_code == 401
    answer = requests.post(url, json=BODY, timeout=10, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert "Server-Timing" in answer.headers
    again = requests.post(url, json=BODY, timeout=10)
    assert again.status_code == 401  # what is cached is no more open than what is computed


@pytest.mark.parametrize("path", ["/slo/api/window", "/slo/api/status", "/slo/api/arrivals"])
def test_data_needs_a_key_too(guarded: tuple[str, str], path: str) -> None:
    endpoint, key = guarded
    assert requests.get(endpoint + path, timeout=10).status_code == 401
    assert requests.get(endpoint + path, timeout=10, headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize("path", ["/slo/livez", "/slo/readyz", "/slo/metrics", "/slo/"])
def test_probes_metrics_and_empty_pages_do_not(guarded: tuple[str, str], path: str) -> None:
    assert requests.get(guarded[0] + path, timeout=10).status_code == 200


def test_orders_need_an_administrator_and_an_api_key_is_none(guarded: tuple[str, str]) -> None:
    endpoint, key = guarded
    url, order = f"{endpoint}/slo/api/control", {"action": "clear_cache"}
    assert requests.post(url, json=order, timeout=10).status_code == 401
    assert requests.post(url, json=order, timeout=10, headers={"Authorization": f"Bearer {key}"}).status_code == 403


def test_a_ban_meets_its_sender_behind_a_proxy_and_is_named(guarded: tuple[str, str]) -> None:
    endpoint, key = guarded
    url = f"{endpoint}/v1/embeddings"

    def ask(sent_by: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": sent_by}
        return requests.post(url, json=BODY, timeout=10, headers=headers).status_code

    # A proxy adds the address that it sees; what stands before it the sender has made up.
    assert [ask("198.51.100.1, 203.0.113.9", "xf-wrong") for _ in range(10)] == [401] * 10
    assert ask("203.0.113.9", key) == 429
    assert ask("198.51.100.1", key) == 200
    assert requests.post(url, json=BODY, timeout=10, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    with EmbeddingsClient(endpoint, MODEL, api_key=ApiKey(key, "a test")) as client:
        client._session.headers["X-Forwarded-For"] = "203.0.113.9"
        with pytest.raises(Unauthorized, match="locked out") as caught:
            client.embed("a")
    assert "serve.trusted_proxies" in (caught.value.hint or "")
