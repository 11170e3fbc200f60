"""A whole open-loop run against a real server, from warm-up to record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slo.bench.conditions import Stopper
from slo.bench.load import LoadPlan, load_once, starting_rate
from slo.bench.schedule import parse_arrivals, read_trace
from slo.bench.session import Live, Session
from slo.bench.wire import target
from slo.bench.workload import Workload
from slo.objective import Objective, Verdict
from slo.records import Run, load_run, save_run
from tests.stub_server import Reply, StubServer

Start = Callable[..., str]


def session(
    endpoint: str, *, objective: Objective | None = None, timeout_s: float = 5.0, **workload: object
) -> Session:
    return Session(
        target=target(endpoint, "queue", timeout_s=5.0),
        workload=Workload(seed=3, **workload),  # type: ignore[arg-type]
        objective=Objective(),
        seed=3,
        check_every=5,
    )


def load(
    to: Session, *, rate: float = 100, seconds: float = 2, arrivals: str = "poisson", warmup_s: float = 0.3
) -> Run:
    schedule = parse_arrivals(arrivals, rate=rate, duration_s=seconds, seed=to.seed)
    return load_once(to, LoadPlan(schedule=schedule, warmup_s=warmup_s))


def test_a_good_service_meets_the_objective_and_its_record_says_all(program: Start, tmp_path: Path) -> None:
    lives: list[Live] = []
    to = replace(session(program("batch_server.py", "--fixed", 3, "--token", 0.05)), show=lives.append)
    run = load(to, seconds=3)
    assert run.verdict is not Verdict.MISSED  # beside other load three seconds prove nothing
    assert not run.void, run.details["self_check"]
    details = run.details
    assert details["answers"]["compared"] > 10
    assert details["answers"]["wrong"] == 0
    assert details["stages"]["infer"]["p50_ms"] > 3
    assert details["warmup"]["discarded"] > 5
    assert details["sent"] == details["offered"] == len(run.samples)
    assert sum(row["due"] for row in details["series"]) == details["sent"] + details["warmup"]["discarded"]
    assert details["resources"]
    assert {summary.name for summary in run.summaries()} == {"short", "medium", "long", "overall"}
    assert lives and lives[-1].phase == "load"
    again = load_run(str(save_run(run, tmp_path)), tmp_path)
    assert (again.verdict, again.details, again.settings) == (run.verdict, run.details, run.settings)
    assert [s.judgement for s in again.summaries()] == [s.judgement for s in run.summaries()]
    assert "你" not in json.dumps(run.to_json(), ensure_ascii=False)


def test_a_slow_service_misses_it(program: Start) -> None:
    run = load(session(program("batch_server.py", "--fixed", 151)), rate=60)
    assert run.verdict is Verdict.MISSED
    assert not run.void


def test_wrong_answers_are_found_though_they_came_fast(program: Start) -> None:
    run = load(session(program("batch_server.py", "--wrong-every", 3)))
    assert run.verdict is Verdict.MISSED
    assert run.details["answers"]["wrong"] > 3
    assert any(sample.outcome == "bad_answer" for sample in run.samples)
    assert "were wrong" in run.details["conclusion"]["remarks"][0]


def test_cached_answers_never_enter_the_headline(program: Start) -> None:
    run = load(session(program("batch_server.py", "--fixed", 20, "--cache"), zipf=1.5, mix=(("long", 1.0),)))
    cached = run.cached()
    assert cached is not None
    assert cached.total > 50
    assert run.summaries()[-1].total + cached.total == run.details["sent"]
    assert run.summaries()[-1].p50_ms > 20 > cached.p50_ms
    assert run.details["conclusion"]["total"] == run.summaries()[-1].total


@pytest.mark.quiet
def test_a_pause_of_the_server_shows(program: Start) -> None:
    """0.4 s of silence every two seconds: a fifth of all arrivals wait, whatever the other latencies are."""
    run = load(session(program("batch_server.py", "--fixed", 1, "--pause-every", 2, "--pause-for", 0.4)), seconds=4)
    late = sum(sample.latency_ms > 50 for sample in run.samples) / len(run.samples)
    assert 0.12 < late < 0.3
    assert run.verdict is not Verdict.MET


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_batches_are_one_request_each(encoding: str) -> None:
    with StubServer() as server:
        to = replace(session(server.endpoint, batch=4), encoding=encoding)  # type: ignore[arg-type]
        run = load(to, rate=40, seconds=1)
        body = server.requests[-2].body
    assert len(body["input"]) == 4
    assert body.get("encoding_format") == (None if encoding == "float" else "base64")
    assert run.details["texts_answered"] == 4 * sum(sample.ok for sample in run.samples)


def test_refusals_are_bad_and_have_a_latency_of_their_own() -> None:
    with StubServer(script=lambda n, _t: Reply(status=429) if n % 2 else Reply()) as server:
        run = load(session(server.endpoint), rate=60)
    refused = [sample for sample in run.samples if sample.outcome == "refused"]
    assert run.verdict is not Verdict.MET
    assert run.details["refusals"]["count"] == len(refused) > 30
    assert run.details["refusals"]["p50_ms"] > 0


def test_a_dead_server_is_a_record_too() -> None:
    with StubServer() as server:
        endpoint = server.endpoint
    run = load(session(endpoint), rate=100, seconds=1)
    assert run.verdict is Verdict.MISSED
    assert {sample.outcome for sample in run.samples} == {"unreachable"}
    assert any("refused" in note or "Connect" in note for note in run.notes)


def test_arrivals_are_recorded_and_replayed(program: Start, tmp_path: Path) -> None:
    to, trace = session(program("batch_server.py")), tmp_path / "arrivals.jsonl"
    schedule = parse_arrivals("poisson", rate=50, duration_s=1, seed=1)
    load_once(to, LoadPlan(schedule=schedule, warmup_s=0, record_to=trace))
    recorded = read_trace(trace)
    assert len(recorded.due_s) == len(schedule.due_s)
    assert {length for lengths in recorded.chars for length in lengths} == {4, 20, 50}
    replayed = load(to, arrivals=f"replay:{trace}", warmup_s=0)
    assert len(replayed.samples) == len(recorded.due_s)


def test_interrupting_reports_what_was_done(program: Start) -> None:
    stopper = Stopper()
    to = replace(session(program("batch_server.py")), show=lambda live: stopper.ask() if live.elapsed_s > 1.5 else None)
    schedule = parse_arrivals("poisson", rate=50, duration_s=60, seed=1)
    run = load_once(to, LoadPlan(schedule=schedule, warmup_s=0), stopper)
    assert run.interrupted
    assert 50 < len(run.samples) < 250
    assert run.details["sent"] < run.details["offered"]


def test_an_automatic_warmup_ends_when_latency_has_settled(program: Start) -> None:
    to = session(program("batch_server.py", "--fixed", 5))
    schedule = parse_arrivals("poisson", rate=60, duration_s=1, seed=1)
    run = load_once(to, LoadPlan(schedule=schedule))
    assert run.details["settled"] is True
    assert 5 <= run.details["warmup"]["seconds"] < 30


def test_the_warmup_of_a_ramp_has_the_rate_of_its_start() -> None:
    ramp = parse_arrivals("ramp:10:200", rate=None, duration_s=100, seed=1)
    assert starting_rate(ramp) < 40
    assert starting_rate(parse_arrivals("constant", rate=30, duration_s=10, seed=1)) == 30
