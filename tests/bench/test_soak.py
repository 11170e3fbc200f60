"""A soak writes its slices as it goes, goes on after an interruption, and ends with the result table."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slo.bench.running import Stopper
from slo.bench.session import Session
from slo.bench.slices import FORMAT, KIND, Row, read_slices
from slo.bench.soak import SoakPlan, soak
from slo.objective import Verdict
from slo.records import load_run, save_run
from slo.report.load import stress_rows
from tests.bench.test_load import session
from tests.stub_server import Reply, StubServer

Start = Callable[..., str]


def plan(tmp_path: Path, **changes: object) -> SoakPlan:
    header: Row = {"format": FORMAT, "kind": KIND, "id": "s"}
    given = {"id": "s", "clients": 5, "duration_s": 3.0, "slice_s": 1.0, "warmup_s": 0.2, "header": header,
             "file": tmp_path / "runs" / "s.slices.jsonl"}  # fmt: skip
    return SoakPlan(**given | changes)  # type: ignore[arg-type]


def run_soak(to: Session, wanted: SoakPlan, stopper: Stopper | None = None) -> tuple[object, list[Row]]:
    rows: list[Row] = []
    return soak(to, wanted, on_slice=rows.append, stopper=stopper), rows


def test_the_record_holds_the_slices_and_the_table(program: Start, tmp_path: Path) -> None:
    to, rows = session(program("batch_server.py", "--fixed", 5)), list[Row]()
    run = soak(to, plan(tmp_path), on_slice=rows.append)
    assert run.verdict is Verdict.MET, run.void
    assert len(rows) == 3
    assert all(900 < 1000 * row["seconds"] < 1300 for row in rows)
    figures = run.details["soak"]
    assert figures["requests"] == sum(row["total"] for row in rows) == run.summaries()[-1].total
    assert (figures["peak_in_flight"], figures["errors"], figures["slices_met"]) == (5, 0, 1.0)
    assert dict(stress_rows(figures))["concurrent requests"] == "5 (largest seen 5)"
    _, stored = read_slices(tmp_path / "runs" / "s.slices.jsonl")
    assert stored == json.loads(json.dumps(rows))
    save_run(run, tmp_path)
    again = load_run("s", tmp_path)
    assert again.summaries() == run.summaries()
    assert again.verdict is run.verdict


def test_it_goes_on_where_it_stopped(program: Start, tmp_path: Path) -> None:
    to, stopper = session(program("batch_server.py", "--fixed", 5)), Stopper()
    watched = replace(to, show=lambda live: stopper.ask() if live.elapsed_s > 1.4 else None)
    first = soak(watched, plan(tmp_path), on_slice=lambda _row: None, stopper=stopper)
    assert first.interrupted
    _, done = read_slices(tmp_path / "runs" / "s.slices.jsonl")
    assert 1 <= len(done) <= 2
    second = soak(to.reseeded(len(done)), plan(tmp_path, header={}, done=tuple(done)), on_slice=lambda _row: None)
    assert not second.interrupted
    assert second.details["soak"]["seconds"] == pytest.approx(3.0, abs=0.4)
    assert second.summaries()[-1].total > first.summaries()[-1].total
    assert len(read_slices(tmp_path / "runs" / "s.slices.jsonl")[1]) == second.details["soak"]["slices"]


def test_errors_are_counted_by_kind(tmp_path: Path) -> None:
    with StubServer(script=lambda n, _t: Reply(status=503) if n % 3 == 0 else Reply()) as server:
        run = soak(session(server.endpoint), plan(tmp_path, duration_s=1.5), on_slice=lambda _row: None)
    figures = run.details["soak"]
    assert set(figures["failed"]) == {"server_fault"}
    assert figures["error_rate"] == pytest.approx(1 / 3, abs=0.08)
    assert run.verdict is Verdict.MISSED
