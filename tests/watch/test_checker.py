"""`slo check` judges what users had where somebody counts it, and costs a busy server nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slo.cli.main import cli, run
from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import BadRequest, ServerFault, Unauthorized
from slo.objective import Objective, Verdict
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.reports import window_report
from slo.watch.checker import CheckResult, UsersWindow, check, compared, from_history, from_server
from slo.watch.history.store import Store
from tests.stub_server import Reply, Script, StubServer
from tests.watch.simulated import Simulation, simulation, traffic

P95 = Objective()


def checked(
    script: Script, *, objective: Objective = P95, bound_s: float = 10.0, timeout_s: float = 0.5
) -> tuple[CheckResult, StubServer]:
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
    assert found.took_s < 20, "the bound was not waited for"


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


def page(kinds: Mapping[str, int], model: str = "m") -> dict[str, Any]:
    """What the real route says of so many requests of users, beside some of another model and of ours."""
    telemetry = Telemetry(lambda: 10.0)
    for kind, code, seconds in (("fast", "2xx", 0.02), ("slow", "2xx", 0.4), ("failed", "5xx", 0.01)):
        for _ in range(kinds.get(kind, 0)):
            telemetry.request("m", "short", code, cached=False, seconds=seconds)
    for _ in range(1000):
        telemetry.request("another", "short", "2xx", cached=False, seconds=3.0)
        telemetry.own("m", "short", "bench", "2xx", cached=False, seconds=3.0)
    return window_report(telemetry, 300, 0.150, model)


def users(said: dict[str, Any], *, ready: bool = True) -> UsersWindow | None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        if url.endswith("/slo/readyz"):
            if not ready:
                raise ServerFault("HTTP 503", url=url)
            return b"{}"
        return json.dumps(said).encode()

    found = from_server(fetch, "http://h:1/v1/embeddings", "m", P95, 300)
    assert asked[0] == "http://h:1/slo/readyz"
    return found


@pytest.mark.parametrize(
    ("counts", "verdict", "good", "total"),
    [
        ({"fast": 600}, Verdict.MET, 600, 600),
        ({"fast": 500, "slow": 100}, Verdict.MISSED, 500, 600),
        ({"fast": 500, "failed": 100}, Verdict.MISSED, 500, 600),
        ({"fast": 5}, Verdict.UNPROVEN, 5, 5),
        ({}, Verdict.UNPROVEN, 0, 0),
    ],
)
def test_the_servers_own_counts_of_this_model_decide(
    counts: dict[str, int], verdict: Verdict, good: int, total: int
) -> None:
    found = users(page(counts))
    assert found is not None
    judgement = found.judgement
    assert (judgement.verdict, judgement.good, judgement.total) == (verdict, good, total)
    assert found.decided is (verdict is not Verdict.UNPROVEN)
    if total:
        assert (found.latency_ms <= 150) is (good >= 0.95 * total)
    if "failed" in counts:
        assert found.latency_ms == math.inf


def test_a_server_that_answers_nobody_now_is_not_judged_by_the_minutes_before() -> None:
    assert users(page({"fast": 600}), ready=False) is None


def test_an_older_server_that_adds_all_models_up_is_not_believed() -> None:
    assert users(page({"fast": 600}, model="")) is None


def test_a_server_without_the_extension_has_no_counts() -> None:
    def fetch(url: str) -> bytes:
        raise BadRequest(f"{url}: HTTP 404", url=url, status=404)

    assert from_server(fetch, "http://h:1/v1/embeddings", "m", P95, 300) is None


def test_the_history_of_a_watch_under_way_knows_users_too_and_an_old_one_does_not(tmp_path: Path) -> None:
    with simulation(tmp_path) as sim:
        sim.run(10, {"good": 90, "slow": 10})
        now_s = sim.clock.wall()
        found = from_history(sim.store, P95, 300, now_s + 30, 60)
        assert found is not None
        assert (found.judgement.verdict, found.judgement.good, found.judgement.total) == (Verdict.MISSED, 450, 500)
        assert found.latency_ms > 150
        assert from_history(sim.store, P95, 300, now_s + 600, 60) is None


def test_a_history_of_probes_alone_says_nothing_of_users(tmp_path: Path) -> None:
    with Store(tmp_path / "history.db") as store:
        store.record([traffic(0, "probe", good=60)], Simulation.goals())
        assert from_history(store, P95, 300, 70.0, 60) is None


@pytest.mark.parametrize(
    ("counts", "exit_code", "words"),
    [
        ({"fast": 600}, 0, "OK P95 "),
        ({"fast": 500, "slow": 100}, 1, "MISSED P95 "),
        ({"fast": 5}, 0, "OK P95 "),
    ],
)
def test_the_command_says_what_it_judged_and_sends_nothing_to_a_busy_server(
    counts: dict[str, int], exit_code: int, words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    query = "seconds=300&threshold_ms=150&model=m"
    pages: dict[str, Any] = {"/slo/readyz": b"{}", f"/slo/api/window?{query}": json.dumps(page(counts)).encode()}
    with StubServer(pages=pages) as server:
        assert run(cli, ["check", "--endpoint", server.endpoint, "--model", "m"]) == exit_code
        line = capsys.readouterr().out
        assert line.startswith(words)
        busy = sum(counts.values()) > 100
        assert ("[users' requests, as the server counts, in 5m]" in line) is busy
        assert (len(server.requests) == 0) is busy
        assert run(cli, ["check", "--probes", "--endpoint", server.endpoint, "--model", "m"]) == 0
        assert len(server.requests) >= 61
