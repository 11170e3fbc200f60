"""With Xinference's authentication on: the front door is behind it, and only there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests

from scripts.bench_ceiling import MODEL, server

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
