"""A soak writes its slices as it goes, goes on after an interruption, and ends with the result table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from slo.bench.collect import Collector
from slo.bench.conditions import Stopper
from slo.bench.exchange import Exchange
from slo.bench.session import Session
from slo.bench.slices import FORMAT, KIND, Row, read_slices
from slo.bench.soak import FairSample, SoakPlan, soak
from slo.clock import ManualClock
from slo.objective import Objective, Verdict
from slo.records import load_run, save_run
from slo.report.load_tables import stress_rows
from slo.samples import Sample
from tests.bench.test_load import session
from tests.stub_server import Reply, StubServer

Start = Callable[..., str]


def sample(number: int, outcome: str = "ok") -> Sample:
    return Sample(float(number), number + 0.001, number + 0.01, outcome, "short")


def fed(fair: FairSample, count: int, first: int = 0) -> FairSample:
    for number in range(first, first + count):
        fair.offer(sample(number))
    return fair


def test_a_short_run_is_kept_whole_and_in_order() -> None:
    fair = fed(FairSample(100, "a"), 100)
    assert [found.due_s for found in fair.samples()] == [float(n) for n in range(100)]


def test_a_long_run_stays_bounded_and_uniform() -> None:
    places = [found.due_s for seed in range(20) for found in fed(FairSample(200, str(seed)), 20_000).samples()]
    assert 20 * 100 <= len(places) <= 20 * 200
    assert fmean(places) == pytest.approx(10_000, rel=0.03)
    assert fmean(place < 5_000 for place in places) == pytest.approx(0.25, abs=0.03)


def test_sessions_count_by_their_requests_and_not_by_their_number() -> None:
    """A first session of 15 000 requests, killed; then two of 2 500, each restored from what was written down."""
    early = 0
    whole = 0
    for seed in range(20):
        written: list[Row] = []
        for number, (first, count) in enumerate(((0, 15_000), (15_000, 2_500), (17_500, 2_500))):
            fair = FairSample(200, f"{seed}/{number}")
            fair.restore(written)
            for start in range(first, first + count, 500):
                fed(fair, 500, start)
                written.append(fair.take())
        assert len(fair.samples()) <= 200
        early += sum(found.due_s < 15_000 for found in fair.samples())
        whole += len(fair.samples())
    assert early / whole == pytest.approx(0.75, abs=0.03)


def test_what_is_written_grows_with_the_logarithm_of_the_run() -> None:
    fair, written = FairSample(1000, "a"), 0
    for start in range(0, 200_000, 1000):
        written += len(fed(fair, 1000, start).take()["rows"])
    assert written <= 1000 * 6  # 1 + ½·log₂(200) = 4.8; a halving leaves a little more or less than half


def test_restored_samples_are_the_same_and_times_are_those_of_the_run() -> None:
    first = FairSample(10, "a", shift_s=5.0)
    first.offer(sample(1, "timeout"))
    again = FairSample(10, "b")
    again.restore([first.take()])
    assert again.samples() == [Sample(6.0, 6.001, 6.01, "timeout", "short", False)]


def plan(tmp_path: Path, **changes: object) -> SoakPlan:
    header: Row = {"format": FORMAT, "kind": KIND, "id": "s"}
    given = {"id": "s", "clients": 5, "duration_s": 3.0, "slice_s": 1.0, "warmup_s": 0.2, "header": header,
             "started_wall_s": time.time(), "file": tmp_path / "runs" / "s.slices.jsonl"}  # fmt: skip
    return SoakPlan(**given | changes)  # type: ignore[arg-type]


def run_soak(to: Session, wanted: SoakPlan, stopper: Stopper | None = None) -> tuple[object, list[Row]]:
    rows: list[Row] = []
    return soak(to, wanted, on_slice=rows.append, stopper=stopper), rows


def test_the_record_holds_the_slices_and_the_table(program: Start, tmp_path: Path) -> None:
    to, rows = session(program("batch_server.py", "--fixed", 5)), list[Row]()
    run = soak(to, plan(tmp_path), on_slice=rows.append)
    assert run.verdict is not Verdict.MISSED  # beside other load three seconds prove nothing
    assert not run.void
    assert len(rows) == 3
    assert all(0.9 < row["seconds"] < 10 for row in rows)
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
    again = plan(tmp_path, header={}, done=tuple(done), started_wall_s=first.started_wall_s)
    second = soak(to.reseeded(len(done)), again, on_slice=lambda _row: None)
    assert not second.interrupted
    assert second.details["sessions"] == 2
    assert second.details["self_check"]["little_gap"] < 0.05
    # The record's samples are those of both sessions, at their places in the whole run.
    middle_s = second.details["slices"][len(done)]["t"]
    early = [sample for sample in second.samples if sample.done_s <= middle_s]
    assert len(early) == len(first.samples)
    assert len(second.samples) == second.summaries()[-1].total
    assert second.details["soak"]["seconds"] == pytest.approx(3.0, abs=0.4)
    assert second.summaries()[-1].total > first.summaries()[-1].total
    assert len(read_slices(tmp_path / "runs" / "s.slices.jsonl")[1]) == second.details["soak"]["slices"]


def test_errors_are_counted_by_kind(tmp_path: Path) -> None:
    with StubServer(script=lambda n, _t: Reply(status=503) if n % 3 == 0 else Reply()) as server:
        run = soak(session(server.endpoint), plan(tmp_path, duration_s=1.5), on_slice=lambda _row: None)
    figures = run.details["soak"]
    assert set(figures["failed"]) == {"server_fault"}
    assert figures["error_rate"] == pytest.approx(1 / 3, abs=0.08)
    assert figures["p95_ms"] is None, "a third failed: nine in ten were not answered in any time"
    assert 0 < figures["answered_p95_ms"] < 150
    rows = dict(stress_rows(figures))
    assert rows["errors"].endswith(f": {figures['errors']} server_fault")
    assert "ms" in rows["P95 of what was answered"]
    assert run.verdict is Verdict.MISSED


def test_a_wrong_answer_of_an_earlier_session_still_decides(program: Start, tmp_path: Path) -> None:
    """The first session's server mixes answers up, the second's does not."""
    mixing, sound = (program("batch_server.py", "--fixed", 5, *more) for more in (("--wrong-every", 3), ()))
    first = soak(session(mixing), plan(tmp_path, duration_s=1.0, slice_s=0.5), on_slice=lambda _row: None)
    assert first.details["answers"]["wrong"] > 0
    _, done = read_slices(tmp_path / "runs" / "s.slices.jsonl")
    again = plan(tmp_path, header={}, done=tuple(done), duration_s=2.5, started_wall_s=first.started_wall_s)
    second = soak(session(sound), again, on_slice=lambda _row: None)
    assert second.details["answers"]["compared"] > first.details["answers"]["compared"]
    assert second.details["answers"]["wrong"] == first.details["answers"]["wrong"]
    assert second.verdict is Verdict.MISSED
    assert "wrong" in " ".join(second.details["conclusion"]["remarks"])
    bad = sum(summary.failed for summary in second.summaries() if summary.name != "overall")
    assert bad == first.details["answers"]["wrong"]


def test_a_generator_that_failed_in_an_earlier_session_still_voids(program: Start, tmp_path: Path) -> None:
    to = session(program("batch_server.py", "--fixed", 5))
    first = soak(to, plan(tmp_path, duration_s=1.0), on_slice=lambda _row: None)
    assert not first.void
    _, done = read_slices(tmp_path / "runs" / "s.slices.jsonl")
    done[0]["generator"]["late"] = done[0]["total"]
    again = plan(tmp_path, header={}, done=tuple(done), duration_s=2.0, started_wall_s=first.started_wall_s)
    second = soak(to.reseeded(1), again, on_slice=lambda _row: None)
    assert any("late" in reason for reason in second.void)
    assert second.verdict is Verdict.UNPROVEN


def test_a_run_killed_at_its_very_end_gets_its_record_without_more_load(program: Start, tmp_path: Path) -> None:
    endpoint = program("batch_server.py", "--fixed", 5)
    first = soak(session(endpoint), plan(tmp_path, duration_s=1.0), on_slice=lambda _row: None)
    _, done = read_slices(tmp_path / "runs" / "s.slices.jsonl")
    again = plan(tmp_path, header={}, done=tuple(done), duration_s=1.0, started_wall_s=first.started_wall_s)
    second = soak(session("http://127.0.0.1:9"), again, on_slice=lambda _row: None)
    assert second.summaries() == first.summaries()
    assert [s.due_s for s in second.samples] == pytest.approx([s.due_s for s in first.samples], abs=1e-5)
    assert second.verdict is first.verdict


def test_memory_does_not_grow_with_the_run() -> None:
    """Ten thousand requests in slices of a thousand: what is held afterwards is what one slice holds."""
    clock = ManualClock()
    found = Collector(Objective(), clock=clock, keep=0)
    found.measure(clock.monotonic())
    for _ in range(10):
        for _ in range(1000):
            exchange = Exchange(b"", "short")
            exchange.due_s = exchange.dispatched_s = exchange.sent_s = clock.monotonic()
            found.begin(exchange)
            clock.advance(0.01)
            exchange.done_s, exchange.outcome = clock.monotonic(), "ok"
            found.finish(exchange)
        turn = found.turn(clock.monotonic())
        assert turn.lags_ms.total == 1000
        assert turn.area_s == pytest.approx(10.0)
        assert turn.stay_s == pytest.approx(10.0)
    assert (found.sent, found.total, len(found.flags), len(found.kept), found.series()) == (10_000, 10_000, 0, 0, [])
