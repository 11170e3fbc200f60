import json
import math
from pathlib import Path

import pytest

from slo.errors import StoreError
from slo.objective import Objective, Verdict
from slo.records import Run, load_run, merge, run_from_json, save_run
from slo.samples import Sample, summarize

P95 = Objective()


def sample(ms: float, name: str = "short", *, outcome: str = "ok", cached: bool = False, at: float = 0.0) -> Sample:
    return Sample(due_s=at, sent_s=at, done_s=at + ms / 1000, outcome=outcome, length_class=name, cached=cached)


def a_run(samples: list[Sample], *, kind: str = "baseline", at: float = 1_700_000_000.0, run_id: str = "") -> Run:
    return Run(
        kind=kind,
        started_wall_s=at,
        endpoint="http://h/v1/embeddings",
        model="m",
        objective=P95,
        settings={"seed": 1},
        samples=samples,
        host={"cpu": "c", "cores": 2},
        id=run_id,
    )


def test_latency_runs_from_the_due_time_and_service_from_the_sending() -> None:
    late = Sample(due_s=1.0, sent_s=1.1, done_s=1.2, outcome="ok", length_class="short")
    assert late.latency_ms == pytest.approx(200)
    assert late.service_ms == pytest.approx(100)
    assert not late.good(P95)


@pytest.mark.parametrize(
    ("one", "good"),
    [
        pytest.param(sample(149.9), True, id="within"),
        pytest.param(Sample(0.0, 0.0, 0.150, "ok", "short"), True, id="at the threshold"),
        pytest.param(sample(150.1), False, id="beyond"),
        pytest.param(sample(1, outcome="timeout"), False, id="failed, however fast"),
    ],
)
def test_good_is_correct_and_in_time(one: Sample, good: bool) -> None:
    assert one.good(P95) is good


def test_failures_are_infinitely_slow_in_percentiles_and_absent_from_the_mean() -> None:
    samples = [sample(10.0) for _ in range(90)] + [sample(1.0, outcome="refused") for _ in range(10)]
    summary = summarize("short", samples, P95)
    assert [summary.p50_ms, summary.mean_ms] == pytest.approx([10, 10])
    assert summary.p95_ms == summary.max_ms == math.inf
    assert (summary.failed, summary.success_ratio) == (10, 0.9)
    assert summary.judgement.verdict is Verdict.MISSED


def test_every_class_must_meet_the_objective_for_the_run_to_meet_it() -> None:
    fast = [sample(10, "short") for _ in range(900)]
    assert a_run(fast).verdict is Verdict.MET
    assert a_run(fast + [sample(200, "long") for _ in range(20)]).verdict is Verdict.MISSED
    assert a_run(fast + [sample(10, "long") for _ in range(20)]).verdict is Verdict.UNPROVEN
    assert a_run([]).verdict is Verdict.UNPROVEN


def test_summaries_come_per_class_and_overall_where_there_are_several() -> None:
    assert [s.name for s in a_run([sample(1)]).summaries()] == ["short"]
    assert [s.name for s in a_run([sample(1), sample(2, "long")]).summaries()] == ["short", "long", "overall"]


def test_cached_answers_are_reported_apart_and_decide_nothing() -> None:
    run = a_run([sample(200) for _ in range(60)] + [sample(1, cached=True) for _ in range(6000)])
    assert run.verdict is Verdict.MISSED
    assert [s.total for s in run.summaries()] == [60]
    hits = run.cached()
    assert hits is not None
    assert hits.total == 6000
    assert a_run([sample(1, cached=True) for _ in range(100)]).verdict is Verdict.UNPROVEN


def test_a_record_gives_back_the_run(tmp_path: Path) -> None:
    run = a_run([sample(10.25), sample(20.5, "long", outcome="timeout", at=0.5), sample(1, cached=True)])
    run.interrupted, run.notes = True, ["说明"]
    path = save_run(run, tmp_path)
    again = load_run(run.id, tmp_path)
    assert path == tmp_path / "runs" / f"{run.id}.json"
    assert again == run
    assert again.to_json() == run.to_json()


def test_a_record_is_strict_json_with_null_for_a_percentile_that_failed(tmp_path: Path) -> None:
    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    path = save_run(a_run([sample(1, outcome="timeout")]), tmp_path)
    data = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert data["summaries"][0]["p95_ms"] is None


def test_runs_are_found_by_file_id_beginning_and_age(tmp_path: Path) -> None:
    first = a_run([sample(1)], at=1_700_000_000.0)
    second = a_run([sample(2)], kind="stress", at=1_700_000_100.0)
    third = a_run([sample(3)], at=1_700_000_200.0)
    paths = [save_run(run, tmp_path) for run in (first, second, third)]
    assert load_run("last", tmp_path).id == third.id
    assert load_run("last:stress", tmp_path).id == second.id
    assert load_run("last:baseline", tmp_path).id == third.id
    assert load_run(first.id[:15], tmp_path).id == first.id
    assert load_run(str(paths[1]), Path("/nowhere")).id == second.id


@pytest.mark.parametrize(
    ("reference", "problem"),
    [("2023", "fits several"), ("nope", "is no record"), ("last:soak", "is no record")],
)
def test_a_reference_to_no_single_run_is_an_error(tmp_path: Path, reference: str, problem: str) -> None:
    for run in (a_run([], at=1_700_000_000.0), a_run([], at=1_700_000_100.0)):
        save_run(run, tmp_path)
    with pytest.raises(StoreError, match=problem):
        load_run(reference, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "samples": 5}'],
)
def test_what_is_no_record_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"odd\.json"):
        load_run(str(path), tmp_path)


def test_a_future_format_is_refused_by_number() -> None:
    with pytest.raises(StoreError, match="format 3, this version reads 2"):
        run_from_json({"format": 3})


def test_a_directory_that_cannot_be_made_is_the_same_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot be written"):
        save_run(a_run([sample(1)]), tmp_path)


def test_merged_samples_are_in_order_of_their_due_time() -> None:
    a, b, c = (sample(1, at=at) for at in (0.0, 1.0, 2.0))
    assert merge([[a, c], [b]]) == [a, b, c]
