"""With Xinference's authentication on: the front door is behind it, and its short way answers as the long one does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from scripts.bench_ceiling import MODEL
from slo.client import EmbeddingsClient
from slo.errors import Unauthorized
from slo.http import ApiKey
from tests.serve.guarded import BODY, Guarded

pytestmark = [pytest.mark.server, pytest.mark.shares("the server with authentication")]


def bearer(key: str) -> dict[str, Any]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer {key}", 200), ("bearer {key}", 200), ("Bearer  {key}", 200), ("Bearer {key}x", 401), ("{key}", 401),
        ("Basic {key}", 401), ("Bearer", 401), ("Bearer xf-0123456789abcdef", 401), ("", 401), ("Bearer é", 401),
        ("Token {key}", 401),
    ],
)  # fmt: skip
def test_headers_of_every_kind(guarded: Guarded, header: str, status: int) -> None:
    value = header.format(key=guarded.key).encode()
    sender = f"198.51.100.{len(value)}"
    assert guarded.both(sender=sender, Authorization=value).status_code == status
    assert guarded.both(sender=sender).status_code == 401  # no header at all


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nobody", "input": "a"}, 404), ({"model": MODEL}, 400), ({"model": MODEL, "input": []}, 400),
        ({"input": "a"}, 400), ([], 400), ({"model": 3, "input": "a"}, 400), ({"model": MODEL, "input": ["a"]}, 200),
    ],
)  # fmt: skip
def test_requests_of_every_kind(guarded: Guarded, body: Any, status: int) -> None:
    assert guarded.both(body, **bearer(guarded.key)).status_code == status


def test_a_good_key_takes_the_short_way(guarded: Guarded) -> None:
    """Only the middlewares of the long way spell an identity as a UUID with dashes."""
    assert "-" not in guarded.ask(**bearer(guarded.key)).headers["X-Request-ID"]
    assert "-" in guarded.ask(long=True, **bearer(guarded.key)).headers["X-Request-ID"]


REVOKED: list[Callable[[Guarded, int], Any]] = [
    lambda s, key: s.admin("DELETE", f"keys/{key}"),
    lambda s, key: s.admin("PUT", f"keys/{key}", {"enabled": False}),
    lambda s, key: s.admin("PUT", f"keys/{key}", {"expires_at": "2020-01-01T00:00:00"}),
    lambda s, key: s.database("DELETE FROM api_keys WHERE id = ?", key),
    lambda s, key: s.database("UPDATE api_keys SET enabled = 0 WHERE id = ?", key),
    lambda s, key: s.database("UPDATE api_keys SET expires_at = '2020-01-01T00:00:00' WHERE id = ?", key),
]


@pytest.mark.parametrize("number", range(len(REVOKED)))
def test_the_request_after_a_revocation_is_refused(guarded: Guarded, number: int) -> None:
    key_id, key = guarded.new_key(f"revoked{number}")
    for _ in range(3):
        assert guarded.both(**bearer(key)).status_code == 200
    REVOKED[number](guarded, key_id)
    assert guarded.both(sender=f"192.0.2.{number}", **bearer(key)).status_code == 401


@pytest.mark.parametrize("how", ["deleted", "disabled", "disabled behind its back", "must change its password"])
def test_the_request_after_its_owner_is_gone_is_refused(guarded: Guarded, how: str) -> None:
    name = how.replace(" ", "_")
    owner = {"username": name, "password": "bench-password", "permissions": ["models:read", "keys:create"]}
    user = guarded.admin("POST", "users", owner)["id"]
    key = guarded.new_key(f"of_{name}", owner=user)[1]
    assert guarded.both(**bearer(key)).status_code == 200
    if how == "deleted":
        guarded.admin("DELETE", f"users/{user}")
    elif how == "disabled":
        guarded.admin("PUT", f"users/{user}", {"enabled": False})
    elif how == "disabled behind its back":
        guarded.database("UPDATE users SET enabled = 0 WHERE id = ?", user)
    else:
        guarded.database("UPDATE users SET must_change_password = 1 WHERE id = ?", user)
    expected = 403 if how.startswith("must") else 401
    assert guarded.both(sender=f"192.0.2.{100 + len(how)}", **bearer(key)).status_code == expected


def test_a_key_for_another_model_and_one_that_loses_this(guarded: Guarded) -> None:
    other = guarded.new_key("other", model_permissions=[{"permission_type": "model_id", "permission_value": "x"}])[1]
    answer = guarded.both(**bearer(other))
    assert (answer.status_code, MODEL in answer.text) == (403, True)
    key_id, key = guarded.new_key("kind", model_permissions=[{"permission_type": "model_type",
                                                             "permission_value": "embedding"}])  # fmt: skip
    assert guarded.both(**bearer(key)).status_code == 200
    narrowed = {"model_permissions": [{"permission_type": "model_type", "permission_value": "LLM"}]}
    guarded.admin("PUT", f"keys/{key_id}", narrowed)
    assert guarded.both(**bearer(key)).status_code == 403


def test_tokens_of_users_are_judged_by_their_permissions(guarded: Guarded) -> None:
    assert guarded.both(**bearer(guarded.login())).status_code == 200
    guarded.admin("POST", "users", {"username": "poor", "password": "bench-password", "permissions": ["models:list"]})
    assert guarded.both(**bearer(guarded.login("poor"))).status_code == 403


def test_many_wrong_keys_in_a_row_lock_their_sender_out_of_both_ways(guarded: Guarded) -> None:
    assert [guarded.ask(sender="203.0.113.50", **bearer("xf-0123456789abcdef")).status_code
            for _ in range(10)] == [401] * 10  # fmt: skip
    assert guarded.both(sender="203.0.113.50", **bearer(guarded.key)).status_code == 429
    assert guarded.both(sender="203.0.113.51", **bearer(guarded.key)).status_code == 200


def test_a_disabled_key_tried_too_often_stays_locked_for_that_sender(guarded: Guarded) -> None:
    key_id, key = guarded.new_key("tried")
    guarded.admin("PUT", f"keys/{key_id}", {"enabled": False})
    for _ in range(5):
        assert guarded.ask(sender="203.0.113.60", **bearer(key)).status_code == 401
    guarded.admin("PUT", f"keys/{key_id}", {"enabled": True})
    assert guarded.both(sender="203.0.113.60", **bearer(key)).status_code == 429
    assert guarded.both(sender="203.0.113.61", **bearer(key)).status_code == 200


def test_both_ways_leave_the_same_record(guarded: Guarded) -> None:
    key = guarded.new_key('na"me与\u2028k')[1]
    before = len(guarded.audited(0))
    for long in (False, True):
        for body in (BODY, {"model": MODEL, "input": []}, {"model": "nobody", "input": "a"}, {"input": "a"}):
            guarded.ask(long=long, body=body, **bearer(key), **{"X-Request-ID": f'id"{long}'})
    events = guarded.audited(before + 8)[before:]
    assert [event.pop("request_id") for event in events] == ['id"False'] * 4 + ['id"True'] * 4
    for event in events:
        assert abs(event.pop("latency_ms")) < 10_000
        assert event.pop("@timestamp").endswith("Z")
    assert events[:4] == events[4:]
    assert [list(event) for event in events[:4]] == [list(event) for event in events[4:]]
    assert [event["status"] for event in events[:4]] == ["success", "error", "model_not_found", "error"]


def test_both_ways_count_under_the_same_name(guarded: Guarded) -> None:
    guarded.both(**bearer(guarded.new_key("counted")[1]))
    text = guarded.http.get(f"{guarded.endpoint}/metrics", timeout=60).text
    counted = [line for line in text.splitlines() if "api_key_requests_total{" in line and '"counted"' in line]
    assert [line.rsplit(" ", 1)[1] for line in counted] == ["2"]


def test_no_key_and_a_wrong_key_are_401_and_the_right_one_is_served(guarded: Guarded) -> None:
    endpoint, key = guarded.endpoint, guarded.key
    url = f"{endpoint}/v1/embeddings"
    assert requests.post(url, json=BODY, timeout=60).status_code == 401
    assert requests.post(url, json=BODY, timeout=60, headers={"Authorization": "Bearer xf-wrong"}).status_code == 401
    answer = requests.post(url, json=BODY, timeout=60, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert "Server-Timing" in answer.headers
    again = requests.post(url, json=BODY, timeout=60)
    assert again.status_code == 401  # what is cached is no more open than what is computed


@pytest.mark.parametrize("path", ["/slo/api/window", "/slo/api/status", "/slo/api/arrivals"])
def test_data_needs_a_key_too(guarded: Guarded, path: str) -> None:
    endpoint, key = guarded.endpoint, guarded.key
    assert requests.get(endpoint + path, timeout=60).status_code == 401
    assert requests.get(endpoint + path, timeout=60, headers={"Authorization": f"Bearer {key}"}).status_code == 200


@pytest.mark.parametrize("path", ["/slo/livez", "/slo/readyz", "/slo/metrics", "/slo/"])
def test_probes_metrics_and_empty_pages_do_not(guarded: Guarded, path: str) -> None:
    assert requests.get(guarded.endpoint + path, timeout=60).status_code == 200


def test_orders_need_an_administrator_and_an_api_key_is_none(guarded: Guarded) -> None:
    endpoint, key = guarded.endpoint, guarded.key
    url, order = f"{endpoint}/slo/api/control", {"action": "clear_cache"}
    assert requests.post(url, json=order, timeout=60).status_code == 401
    assert requests.post(url, json=order, timeout=60, headers={"Authorization": f"Bearer {key}"}).status_code == 403


def test_a_ban_meets_its_sender_behind_a_proxy_and_is_named(guarded: Guarded) -> None:
    endpoint, key = guarded.endpoint, guarded.key
    url = f"{endpoint}/v1/embeddings"

    def ask(sent_by: str, token: str) -> int:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": sent_by}
        return requests.post(url, json=BODY, timeout=60, headers=headers).status_code

    # A proxy adds the address that it sees; what stands before it the sender has made up.
    assert [ask("198.51.100.1, 203.0.113.9", "xf-wrong") for _ in range(10)] == [401] * 10
    assert ask("203.0.113.9", key) == 429
    assert ask("198.51.100.1", key) == 200
    assert requests.post(url, json=BODY, timeout=60, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    with EmbeddingsClient(endpoint, MODEL, api_key=ApiKey(key, "a test")) as client:
        client.session.headers["X-Forwarded-For"] = "203.0.113.9"
        with pytest.raises(Unauthorized, match="locked out") as caught:
            client.embed("a")
    assert "serve.trusted_proxies" in (caught.value.hint or "")
