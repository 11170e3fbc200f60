"""Tallies add, count exactly, and estimate percentiles within half a percent."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.objective import Objective
from slo.samples import Sample, summarize
from slo.tally import Tally, tally_from_json

GOAL = Objective()


def sample(ms: float, outcome: str = "ok") -> Sample:
    return Sample(0.0, 0.0, ms / 1000, outcome, "short")


def tally(samples: list[Sample]) -> Tally:
    result = Tally()
    for one in samples:
        result.count(one, GOAL)
    return result


@given(st.lists(st.tuples(st.floats(0.02, 9000), st.sampled_from(["ok", "ok", "ok", "timeout"])), min_size=1))
def test_the_figures_are_those_of_the_samples(pairs: list[tuple[float, str]]) -> None:
    samples = [sample(ms, outcome) for ms, outcome in pairs]
    exact, found = summarize("x", samples, GOAL), tally(samples).summary("x", GOAL)
    assert (found.total, found.failed, found.judgement) == (exact.total, exact.failed, exact.judgement)
    for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "mean_ms", "p95_low_ms", "p95_high_ms"):
        a, b = getattr(exact, name), getattr(found, name)
        assert math.isnan(a) == math.isnan(b), name
        if not math.isnan(a):
            assert b == pytest.approx(a, rel=0.0051), name


@given(st.lists(st.floats(0.02, 9000)), st.lists(st.floats(0.02, 9000)))
def test_tallies_add(a: list[float], b: list[float]) -> None:
    whole, part = tally([sample(ms) for ms in a + b]), tally([sample(ms) for ms in a])
    part.add(tally([sample(ms) for ms in b]))
    assert (part.total, part.good, part.bins) == (whole.total, whole.good, whole.bins)
    assert part.sum_ms == pytest.approx(whole.sum_ms)


def test_json_and_back() -> None:
    r = random.Random(1)
    before = tally([sample(r.lognormvariate(3, 1), r.choice(["ok", "refused"])) for _ in range(500)])
    after = tally_from_json(json.loads(json.dumps(before.to_json())))
    assert after.summary("x", GOAL).p95_ms == before.summary("x", GOAL).p95_ms
    assert after.failed == before.failed


def test_151_ms_is_not_good_and_150_is() -> None:
    assert tally([sample(150.0)]).good == 1
    assert tally([sample(150.0001)]).good == 0


def test_an_empty_tally_knows_nothing() -> None:
    summary = Tally().summary("x", GOAL)
    assert math.isnan(summary.p95_ms)
    assert math.isnan(summary.mean_ms)
    assert summary.total == 0
