"""What a waiting caller did not send: counted as HdrHistogram and wrk2 count it, and in the verdict."""

from __future__ import annotations

import json
import math
import random
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.bench.baseline import BaselinePlan, judge_on_pace, run_baseline
from slo.bench.omission import MOST, meanwhile, waits_of
from slo.bench.rederive import rederive
from slo.bench.soak import SoakPlan, soak
from slo.bench.soak_record import conclude_soak, packed_rows
from slo.client import Answer
from slo.clock import ManualClock
from slo.objective import Objective, Verdict
from slo.record_form import digest_of, pack_bytes, packed, unpack_bytes, unpacked
from slo.records import Run
from slo.report.load_tables import stress_rows
from slo.samples import Sample
from slo.units import show_ratio
from tests.bench.virtual_load import Shape, in_virtual_time, virtual_session
from tests.stub_server import vector_of

GOAL = Objective()
milliseconds = st.floats(0.1, 60_000).map(lambda value: round(value, 3))


def sample(due_s: float, latency_s: float, outcome: str = "ok", name: str = "short") -> Sample:
    return Sample(due_s, due_s, due_s + latency_s, outcome, name)


@given(waited=milliseconds, pace=st.floats(1, 2000))
def test_the_values_of_hdrhistogram(waited: float, pace: float) -> None:
    """recordValueWithExpectedInterval: `value − interval`, `value − 2·interval`, … while they are `>= interval`."""
    values, value = [], waited - pace
    while waited > GOAL.threshold_ms and value >= pace:
        values.append(value)
        value -= pace
    expected, late = meanwhile(waited, pace, GOAL)
    assert abs(expected - len(values)) <= (abs(value - pace) < 1e-6 or abs(value) < 1e-6 or abs(value + pace) < 1e-6)
    assert abs(late - sum(v > GOAL.threshold_ms for v in values)) <= any(
        abs(v - GOAL.threshold_ms) < 1e-6 for v in (*values, value)
    )


@given(waited=milliseconds, more=st.floats(0, 5000), pace=st.floats(1, 2000))
def test_who_waits_longer_stands_for_no_fewer(waited: float, more: float, pace: float) -> None:
    (due, late), (due_longer, late_longer) = (meanwhile(w, pace, GOAL) for w in (waited, waited + more))
    assert 0 <= late <= due <= waited / pace
    assert (due, late) <= (due_longer, late_longer)
    assert meanwhile(waited, pace, GOAL, failed=True) == (late, late), "what follows a failure was not answered"


@given(waited=st.floats(0, 150), pace=st.floats(1, 2000))
def test_nothing_is_made_up_while_answers_are_in_time(waited: float, pace: float) -> None:
    assert meanwhile(waited, pace, GOAL) == (0, 0)


@given(st.lists(st.tuples(st.floats(0.001, 3), st.booleans()), min_size=1, max_size=60), st.floats(5, 400))
def test_counts_agree_with_the_sequence_that_they_weigh(waits: list[tuple[float, bool]], pace: float) -> None:
    due_s, samples = 0.0, []
    for wait_s, failed in waits:
        samples.append(sample(round(due_s, 4), round(wait_s, 4), "timeout" if failed else "ok"))
        due_s += wait_s
    found = waits_of(samples, GOAL).on_pace(GOAL, {"short": pace})
    assert len(found.flags) == found.total == len(samples) + found.expected
    assert sum(found.flags) == found.total - found.good
    assert found.late <= found.expected
    assert 0 < found.effective <= found.total
    bad = sum(not s.good(GOAL) for s in samples)
    assert found.total - found.good == bad + found.late


def test_a_stall_of_two_seconds_counts_as_those_who_would_have_met_it() -> None:
    """At 20 ms a caller would have sent 99 more within 2 s, 92 of which would have waited for over 150 ms."""
    samples = [sample(index * 0.02, 0.02) for index in range(400)] + [sample(8.0, 2.0)]
    found = waits_of(samples, GOAL)
    assert found.usual_ms() == {"short": 20.0}
    paced = found.on_pace(GOAL, found.usual_ms())
    assert (paced.total, paced.expected, paced.late) == (401 + 99, 99, 92)
    assert paced.effective < 200, "one stall is one cluster, however many it stands for"


def test_each_class_has_its_own_pace() -> None:
    """A document that always takes 600 ms is late, and holds nobody up."""
    samples = [sample(i, 0.02) for i in range(50)] + [sample(100 + i, 0.6, name="doc512") for i in range(50)]
    found = waits_of(samples, GOAL)
    assert found.on_pace(GOAL, found.usual_ms()).expected == 0
    assert found.on_pace(GOAL, dict.fromkeys(("short", "doc512"), 20.0)).expected == 50 * 29


def test_hours_of_waiting_are_counted_exactly_and_weighed_by_a_part() -> None:
    samples = [sample(0.0, 0.001), sample(0.001, 0.001), sample(0.002, 3600.0)]
    found = waits_of(samples, GOAL).on_pace(GOAL, {"short": 1.0})
    assert found.expected == 3_599_999
    assert found.late == 3_600_000 - 150 - 1
    assert len(found.flags) <= MOST + 3


@dataclass
class Stalling:
    """A service of 20 ms that stands still for 2 s of every 10, in the time of a manual clock."""

    clock: ManualClock
    stall_s: float = 2.0
    url: str = "http://stalling/v1/embeddings"
    model: str = "stalling"
    asked: list[str] = field(default_factory=list)

    def embed(self, text: str, *, dimension: int | None = None) -> Answer:
        self.asked.append(text)
        now = self.clock.monotonic() % 10.0
        if now >= 10.0 - self.stall_s:
            self.clock.advance(10.0 - now)
        self.clock.advance(0.02)
        return Answer(vectors=[vector_of(text, 8)], tokens=None, headers={})


def baseline(stall_s: float, *, pace_s: float = 0.1, requests: int = 200, objective: Objective = GOAL) -> Run:
    clock = ManualClock()
    plan = BaselinePlan(requests=requests, warmup=2, seed=3, pace_s=pace_s)
    return run_baseline(Stalling(clock, stall_s), plan, objective, server={}, clock=clock)  # type: ignore[arg-type]


@pytest.mark.parametrize("pace_s", [0.1, 0.0], ids=["on its grid", "back to back"])
def test_a_service_that_stalls_2_s_of_every_10_is_missed_by_one_client(pace_s: float) -> None:
    run = baseline(2.0, pace_s=pace_s, requests=200 if pace_s else 2000)
    assert all(summary.judgement.verdict is Verdict.MET for summary in run.summaries()), "by what was sent alone"
    assert run.verdict is Verdict.MISSED
    on_pace = run.details["on_pace"]
    assert 1 - on_pace["good"] / on_pace["total"] == pytest.approx(0.185, abs=0.03)
    assert any("would have been due" in note for note in run.notes)
    assert baseline(0.0, pace_s=pace_s, requests=200 if pace_s else 2000).verdict is Verdict.MET


def test_requests_of_a_baseline_leave_at_the_marks_of_its_grid() -> None:
    due_s = [s.due_s for s in baseline(2.0).samples]
    steps = [round((b - a) / 0.1, 6) for a, b in pairwise(due_s)]
    assert set(steps) <= {1.0, 20.0, 21.0}
    assert min(steps) == 1.0


def test_a_baseline_is_met_only_if_it_lasted() -> None:
    asks = Objective(longest_stall_s=1.0)
    assert baseline(0.0, objective=asks).verdict is Verdict.MET
    short = baseline(0.0, requests=100, objective=asks)
    assert short.verdict is Verdict.UNPROVEN
    assert "longest_stall" in short.details["on_pace"]["advice"]


def stored(run: Run) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(packed(run.to_json())))
    return data


def test_what_was_expected_follows_from_the_record() -> None:
    run = baseline(2.0)
    assert rederive(stored(run)).differences == ()
    assert rederive(stored(run)).verdict is Verdict.MISSED
    whole = unpacked(stored(run)) | {"verdict": "met"}
    on_pace = whole["details"]["on_pace"]
    for forged in (
        whole | {"details": {}},
        whole | {"details": {"on_pace": on_pace | {"late": 3, "verdict": "met"}}},
        whole | {"settings": whole["settings"] | {"pace_s": 5.0}},
    ):
        assert rederive(packed(forged | {"digest": digest_of(forged)})).differences


def stress(tmp_path: Path, shape: Shape, clients: int = 4) -> Run:
    """`slo stress` in virtual time, two minutes in slices of twenty seconds."""
    plan = SoakPlan(id="s", clients=clients, duration_s=120.0, slice_s=20.0, started_wall_s=0.0, warmup_s=1.0,
                    file=tmp_path / "s.slices.jsonl")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        in_virtual_time(patch, shape)
        return soak(virtual_session(), plan, on_slice=lambda _row: None)


def test_callers_of_a_service_that_stalls_are_told_what_they_did_not_send(tmp_path: Path) -> None:
    run = stress(tmp_path, Shape(service_ms=5.0, stall_s=2.0))
    sent = run.details["conclusion"]
    assert 1 - sent["good"] / sent["total"] < 0.01, "4 callers, 12 stalls: 48 late of some 19 000"
    on_pace = run.details["on_pace"]
    assert 1 - on_pace["good"] / on_pace["total"] == pytest.approx(0.185, abs=0.02)
    assert (run.verdict, on_pace["verdict"]) == (Verdict.MISSED, "missed")
    assert "would have been due" in run.details["conclusion"]["remarks"][0]
    told = dict(stress_rows(run.details["soak"]))["the same, had callers kept their pace"]
    assert told == show_ratio(on_pace["good"] / on_pace["total"])
    assert rederive(stored(run)).differences == ()


def test_callers_of_a_steady_service_lose_nothing(tmp_path: Path) -> None:
    run = stress(tmp_path, Shape(service_ms=5.0))
    assert run.verdict is Verdict.MET
    assert run.details["on_pace"]["expected"] == 0
    assert run.details["soak"]["on_pace"] is None


def fewer(row: dict[str, Any]) -> None:
    row["on_pace"] |= {"expected": 0, "late": 0, "total": row["total"], "good": row["good"]}


def shorter(row: dict[str, Any]) -> None:
    for name, (packed_ms, _) in row["late_waits"].items():
        waits = array("f", unpack_bytes(packed_ms))
        row["late_waits"][name][0] = pack_bytes(array("f", [151.0] * len(waits)).tobytes())
    fewer(row)


def slower(row: dict[str, Any]) -> None:
    row["on_pace"]["pace_ms"] = dict.fromkeys(row["on_pace"]["pace_ms"], 3000.0)
    fewer(row)


@pytest.mark.parametrize("cheat", [fewer, shorter, slower])
def test_a_soak_that_leaves_out_its_stalls_is_refused(tmp_path: Path, cheat: Callable[[dict[str, Any]], None]) -> None:
    run = stress(tmp_path, Shape(service_ms=5.0, stall_s=2.0))
    rows = json.loads(unpack_bytes(run.details["evidence"]["slices"]))
    for row in rows:
        cheat(row)
    conclude_soak(run, rows)
    run.details["evidence"] = {"slices": packed_rows(rows)}
    assert run.verdict is Verdict.MET
    assert rederive(stored(run)).differences


def asked_on_a_grid(share: float, stall_s: float, seed: int) -> Run:
    """A minute of one client at 10/s, of a service of 20 ms that stalls at chance times: so many would find it late."""
    source, samples, at_s = random.Random(seed), list[Sample](), 0.0
    between_s = (stall_s - 0.13) / share - stall_s
    edge_s = -source.random() * stall_s if source.random() < stall_s / (stall_s + between_s) else (
        source.expovariate(1 / between_s))  # fmt: skip
    while at_s < 60:
        while at_s >= edge_s + stall_s:
            edge_s += stall_s + source.expovariate(1 / between_s)
        waits_s = edge_s + stall_s - at_s if at_s >= edge_s else 0.0
        samples.append(sample(round(at_s, 4), round(waits_s + 0.02, 4)))
        at_s = round(at_s + 0.1 * max(1, math.ceil((waits_s + 0.02) / 0.1 - 1e-9)), 4)
    run = Run(kind="baseline", started_wall_s=0.0, endpoint="", model="", objective=Objective(longest_stall_s=1.0),
              settings={"pace_s": 0.1}, samples=samples, host={})  # fmt: skip
    judge_on_pace(run)
    return run


@pytest.mark.parametrize("stall_s", [0.3, 1.0])
@pytest.mark.parametrize(("share", "wrong"), [(0.05, "met"), (0.0475, "missed")])
def test_a_baseline_of_a_service_that_stalls_is_seldom_wrong(stall_s: float, share: float, wrong: str) -> None:
    """At the very threshold, 200 runs: 5 % are allowed; of 200 with a rate of 5 % at most 17 are wrong."""
    verdicts = [asked_on_a_grid(share, stall_s, seed).details["on_pace"]["verdict"] for seed in range(200)]
    assert verdicts.count(wrong) <= 17
