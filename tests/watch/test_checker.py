import re

import pytest

from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import Unauthorized
from slo.objective import Objective, Verdict
from slo.watch.checker import Check, check, compared
from tests.stub_server import Reply, Script, StubServer

P95 = Objective()


def checked(
    script: Script, *, objective: Objective = P95, bound_s: float = 10.0, timeout_s: float = 0.5
) -> tuple[Check, StubServer]:
    with StubServer(script) as server, EmbeddingsClient(server.endpoint, "stub", timeout_s=timeout_s) as client:
        return check(client, objective, bound_s=bound_s, clock=SystemClock()), server


def test_a_healthy_server_is_proven_with_sixty_probes() -> None:
    found, server = checked(lambda _n, _texts: Reply())
    assert (found.word, found.exit_code, found.judgement.good, found.judgement.total) == ("OK", 0, 60, 60)
    assert len(server.requests) == 61
    assert len(set(server.texts)) == 61
    assert {len(text) for text in server.texts} == {4, 20, 50}
    assert re.fullmatch(r"OK P95 [\d.]+ ms ≤ 150 ms  60/60 good  stub  http://\S+  [\d.]+ s", str(found))


def test_two_checks_send_different_texts() -> None:
    _, first = checked(lambda _n, _texts: Reply())
    _, second = checked(lambda _n, _texts: Reply())
    assert len(set(first.texts) & set(second.texts)) <= 1


def test_a_slow_server_is_missed_after_twenty_probes() -> None:
    found, server = checked(lambda _n, _texts: Reply(delay_s=0.03), objective=Objective(threshold_ms=20))
    assert (found.word, found.exit_code, len(server.requests)) == ("MISSED", 1, 21)
    assert str(found).startswith("MISSED P95 ")
    assert " > 20.0 ms  0/20 good" in str(found)


def test_one_slow_probe_costs_more_probes_and_not_the_verdict() -> None:
    found, _ = checked(lambda n, _texts: Reply(delay_s=0.2 if n == 30 else 0.0))
    assert (found.word, found.judgement.good, found.judgement.total) == ("OK", 149, 150)


def test_what_is_not_decided_in_time_is_unproven_with_advice() -> None:
    found, _ = checked(lambda _n, _texts: Reply(delay_s=0.05), bound_s=0.5)
    assert (found.word, found.exit_code) == ("UNPROVEN", 3)
    assert "stopped after 0.5 s" in str(found)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param(Reply(fault="reset"), "nobody answers there", id="reset"),
        pytest.param(Reply(status=503, body={"detail": "loading"}), "HTTP 503: loading", id="model not ready"),
        pytest.param(Reply(status=400, body={"detail": "Model not found"}), "Model not found", id="model gone"),
        pytest.param(Reply(delay_s=9), "no answer within 0.5 s", id="hung"),
        pytest.param(Reply(fault="trickle", delay_s=0.1), "no answer within 0.5 s", id="a byte at a time"),
    ],
)
def test_a_server_that_answers_nobody_is_an_outage(reply: Reply, reason: str) -> None:
    found, _ = checked(lambda _n, _texts: reply, bound_s=2)
    assert (found.word, found.exit_code) == ("OUTAGE", 1)
    assert str(found).startswith("OUTAGE ")
    assert reason in str(found)
    assert "\n" not in str(found)


def test_a_server_that_is_down_is_noticed_at_once() -> None:
    with StubServer() as server:
        endpoint = server.endpoint
    with EmbeddingsClient(endpoint, "stub") as client:
        found = check(client, P95, bound_s=30, clock=SystemClock())
    assert (found.word, found.exit_code) == ("OUTAGE", 1)
    assert found.took_s < 2


def test_a_server_that_refuses_everybody_misses_the_objective_and_is_not_called_down() -> None:
    found, _ = checked(lambda _n, _texts: Reply(status=429, headers={"Retry-After": "1"}))
    assert (found.word, found.exit_code) == ("MISSED", 1)
    assert "P95 ∞ > 150 ms  0/20 good (20 refused)" in str(found)


def test_a_rejected_key_is_a_mistake_and_no_outage() -> None:
    with pytest.raises(Unauthorized):
        checked(lambda _n, _texts: Reply(status=401))


def test_answers_of_a_cache_prove_nothing() -> None:
    hit = {"Cache-Status": "slo; hit"}
    found, _ = checked(lambda n, _texts: Reply(headers=hit if n % 2 else {}))
    assert (found.word, found.judgement.total) == ("OK", 60)
    assert found.cached >= 59


def test_the_result_for_machines_holds_the_same() -> None:
    found, _ = checked(lambda _n, _texts: Reply())
    data = found.to_json()
    assert (data["status"], data["exit_code"], data["good"], data["total"]) == ("ok", 0, 60, 60)
    assert data["objective"] == "P95 ≤ 150 ms"
    assert found.judgement.verdict is Verdict.MET


def test_another_percentile_is_named_as_such() -> None:
    assert compared(280.4, Objective(target=0.99, threshold_ms=300)) == "P99 280 ms ≤ 300 ms"
    assert compared(150.0000001, P95) == "P95 150 ms > 150 ms"
