"""Ending once decided: the looks share the error, so a verdict is no more often wrong than without them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.simulated_services import THRESHOLD_S, services
from slo.bench.load import LoadPlan, load_once
from slo.bench.looks import EarlyStop, look_times, strict
from slo.bench.rederive import rederive
from slo.bench.schedule import parse_arrivals
from slo.bench.verdict import conclude
from slo.objective import Objective, Verdict
from slo.record_form import digest_of, packed, unpacked
from slo.records import Run
from tests.bench.virtual_load import Shape, in_virtual_time, virtual_session

GOAL, USUAL = Objective(), Objective(longest_stall_s=1.0)


@given(duration_s=st.floats(0.5, 90_000))
def test_the_looks_share_the_error_and_end_with_the_run(duration_s: float) -> None:
    times = look_times(duration_s)
    assert times == sorted(times)
    assert times[-1] == duration_s
    errors = [1 - strict(GOAL, times, index).confidence for index in range(len(times))]
    assert sum(errors) == pytest.approx(0.05)
    assert all(error > 0 for error in errors)


def judged(latencies_s: list[float], rate: float) -> Verdict:
    """What a run on this sequence says, looked at on its way."""
    bad = [int(latency > THRESHOLD_S) for latency in latencies_s]
    latencies_ms = [latency * 1000 for latency in latencies_s]
    looks = EarlyStop(USUAL, len(bad) / rate)
    for elapsed_s in looks.times[:-1]:
        count = int(elapsed_s * rate)
        if looks.over(elapsed_s, bad[:count], latencies_ms[:count]):
            return conclude(
                bad[:count], strict(USUAL, looks.times, looks.index), latencies_ms=latencies_ms[:count],
                seconds=elapsed_s,
            ).verdict  # fmt: skip
    last = strict(USUAL, looks.times, len(looks.times) - 1)
    return conclude(bad, last, latencies_ms=latencies_ms, seconds=len(bad) / rate).verdict


@pytest.mark.parametrize("name", ["M/M/1", "stalls of 0.3 s"])
@pytest.mark.parametrize(("share", "wrong"), [(0.05, Verdict.MET), (0.0475, Verdict.MISSED)])
def test_many_looks_are_no_more_often_wrong(name: str, share: float, wrong: Verdict) -> None:
    """150 runs; 5 % are allowed, and of 150 with a rate of 5 % at most 13 are wrong."""
    service = next(s for s in services() if s.name == name)
    size = int(100 * service.rate(share))  # such looks as reach the least duration
    rows = service.draw(share, 150, size, np.random.default_rng(7))
    verdicts = [judged(row.tolist(), service.rate(share)) for row in rows]
    assert verdicts.count(wrong) <= 13


def a_load(shape: Shape, *, seconds: float = 120.0) -> Run:
    to = virtual_session()
    with pytest.MonkeyPatch.context() as patch:
        in_virtual_time(patch, shape)
        schedule = parse_arrivals("poisson", rate=50.0, duration_s=seconds, seed=to.seed)
        return load_once(to, LoadPlan(schedule=schedule, warmup_s=2.0, stop_early=True))


@pytest.mark.parametrize(
    ("shape", "verdict", "most_s"),
    [
        pytest.param(Shape(service_ms=4.0), Verdict.MET, 15, id="fast"),
        pytest.param(Shape(service_ms=4.0, failing=0.3), Verdict.MISSED, 15, id="failing"),
        pytest.param(Shape(service_ms=4.0, failing=0.05), None, 121, id="at the edge"),
    ],
)
def test_a_clear_case_ends_early_and_its_record_holds(shape: Shape, verdict: Verdict | None, most_s: float) -> None:
    run = a_load(shape)
    looks = run.details["looks"]
    assert not run.interrupted
    assert run.details["measured_s"] <= most_s
    assert looks["early"] is (most_s < 120)
    assert run.verdict is verdict or verdict is None
    data = json.loads(json.dumps(packed(run.to_json())))
    found = rederive(data)
    assert found.differences == ()
    assert found.verdict is run.verdict


def test_a_look_that_is_said_to_be_the_last_is_refused() -> None:
    data = unpacked(json.loads(json.dumps(packed(a_load(Shape(service_ms=4.0)).to_json()))))
    data["details"]["looks"]["early"] = False
    assert any("sent" in d.where for d in rederive(packed(data | {"digest": digest_of(data)})).differences)
