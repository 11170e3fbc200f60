"""Statuses mean here what they mean in `slo.client`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slo.bench.baseline import BaselinePlan, run_baseline
from slo.bench.exchange import MOST_KINDS, OK, OTHER, Exchange, Failures, outcome_of
from slo.bench.own_texts import read_texts
from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import RequestError
from slo.http import ApiKey
from slo.objective import Objective
from slo.records import run_from_json
from slo.report.load_tables import load_report
from slo.report.story import tell
from slo.report.strings import Words
from slo.report.table import run_report
from tests.bench.test_load import load, session
from tests.report.test_table import text_of
from tests.stub_server import Reply, StubServer

STATUSES = [200, 301, 400, 401, 403, 404, 408, 413, 422, 429, 451, 500, 502, 503, 504, 599]


def test_outcomes_agree_with_the_client() -> None:
    found = []
    with (
        StubServer(script=lambda n, _texts: Reply(status=STATUSES[n])) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        for _ in STATUSES:
            try:
                client.embed("你好")
                found.append(OK)
            except RequestError as error:
                found.append(error.outcome)
    assert found == [outcome_of(status) for status in STATUSES]


def test_latency_counts_from_the_due_moment_and_service_from_the_sending() -> None:
    exchange = Exchange(b"", "short")
    exchange.due_s, exchange.sent_s, exchange.done_s, exchange.outcome = 1.0, 1.5, 2.0, OK
    sample = exchange.sample()
    assert exchange.finished
    assert (sample.latency_ms, sample.service_ms) == pytest.approx((1000.0, 500.0))


def busy(number: int, texts: list[str]) -> Reply:
    """A third is refused in two ways, each quoting the text and the key."""
    said = f"no room for {texts[0]!r} with key sk-77"
    if number % 6 == 1:
        return Reply(status=503, body={"error": {"message": said, "type": "overloaded"}})
    if number % 6 == 3:
        return Reply(status=400, body={"detail": said})
    return Reply()


def test_each_kind_has_its_count_and_an_example_without_text_or_key() -> None:
    with StubServer(busy) as server:
        to = session(server.endpoint)
        run = load(replace(to, target=replace(to.target, api_key=ApiKey("sk-77", "a test"))), rate=60)
    run = run_from_json(json.loads(json.dumps(run.to_json())))
    found = {(row["status"], row["outcome"], row["code"]): row for row in run.details["failures"]}
    assert set(found) == {(503, "server_fault", "overloaded"), (400, "bad_request", "")}
    assert sum(row["count"] for row in found.values()) == sum(not sample.ok for sample in run.samples)
    assert {row["example"] for row in found.values()} == {"no room for '…' with key …"}
    shown = text_of(load_report(run))
    assert "× HTTP 503 server_fault overloaded: \"no room for '…' with key …\"" in shown
    words = Words("en")
    assert "no room for '…' with key …" in str(tell([run], words).parts)


def test_percentiles_of_what_was_answered_stay_visible() -> None:
    with StubServer(busy) as server:
        run = load(session(server.endpoint), rate=60)
    whole = run.summaries()[-1]
    answered = whole.of_answered()
    assert whole.p95_ms == float("inf") and answered is not None
    assert 0 < answered.p50_ms <= answered.p95_ms <= answered.max_ms < 10_000
    assert answered.total == whole.total - whole.failed
    assert "answered" in text_of(load_report(run))
    assert "of these, answered" in str(tell([run], Words("en")).parts)


def test_the_baseline_says_it_as_well() -> None:
    plan = BaselinePlan(requests=12, warmup=0, seed=1, pace_s=0.0)
    with (
        StubServer(lambda number, texts: busy(number, texts) if number else Reply()) as server,
        EmbeddingsClient(server.endpoint, "stub") as client,
    ):
        run = run_baseline(client, plan, Objective(), server={}, clock=SystemClock())
    assert {(row["status"], row["code"]) for row in run.details["failures"]} == {(503, "overloaded"), (400, "")}
    shown = text_of(run_report(run))
    assert "HTTP 503 server_fault overloaded" in shown and "no room for '…'" in shown


def test_a_request_of_a_file_is_named_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("q17\t你好世界\n", encoding="utf-8")
    with StubServer(lambda _n, _t: Reply(status=500, body={"detail": "broken"})) as server:
        run = load(session(server.endpoint, own=read_texts(tmp_path / "t.tsv")), rate=20, seconds=1, warmup_s=0)
    (row,) = run.details["failures"]
    assert (row["request"], row["example"]) == ("q17", "broken")


@pytest.mark.parametrize("fault", ["reset", "truncate"])
def test_a_cut_connection_is_told(fault: str) -> None:
    with StubServer(lambda _n, _t: Reply(fault=fault)) as server:  # type: ignore[arg-type]
        run = load(session(server.endpoint), rate=20, seconds=1, warmup_s=0)
    (row,) = run.details["failures"]
    assert (row["status"], row["outcome"]) == (0, "unreachable")
    assert row["example"]


def test_a_code_of_its_own_for_each_request_does_not_fill_the_record() -> None:
    failures = Failures()
    for number in range(200):
        failures.add("server_fault", f"id-{number}", status=500)
    rows = failures.rows()
    assert len(rows) == MOST_KINDS + 1
    assert (rows[0]["code"], rows[0]["count"]) == (OTHER, 200 - MOST_KINDS)


def test_counts_of_slices_add_up() -> None:
    whole = Failures()
    for example in ("", "why"):
        part = Failures()
        part.add("timeout", "", status=0, count=3)
        whole.merge([{**row, "example": example} for row in part.rows()])
    assert whole.rows() == [
        {"outcome": "timeout", "status": 0, "code": "", "count": 6, "example": "why", "request": ""}
    ]
