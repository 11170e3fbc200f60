"""Several runs together: the verdict is on all, and no more certain than the runs are alike."""

from __future__ import annotations

import random

import pytest

from slo.bench.repeated import together
from slo.objective import Objective
from slo.records import Run
from slo.samples import Sample

GOAL = Objective()


def a_run(late: float, *, n: int = 400, seed: int = 1, objective: Objective = GOAL, void: bool = False) -> Run:
    source, samples = random.Random(seed), []
    for index in range(n):
        latency_s = 0.3 if source.random() < late else 0.05 + 0.01 * source.random()
        samples.append(Sample(index * 0.1, index * 0.1, index * 0.1 + latency_s, "ok", "short"))
    return Run(kind="load", started_wall_s=1_700_000_000.0 + seed, endpoint="", model="m", objective=objective,
               settings={}, samples=samples, host={}, void=["late"] if void else [])  # fmt: skip


def test_runs_that_prove_nothing_alone_prove_it_together() -> None:
    runs = [a_run(0.035, seed=seed) for seed in range(8)]
    found = together(runs)
    assert found["verdicts"].count("met") < 8
    assert (found["verdict"], found["total"]) == ("met", 3200)
    assert found["runs"] == [run.id for run in runs]
    assert "8 runs, P95 from" in found["words"]


def test_runs_that_are_not_alike_prove_little() -> None:
    """3 % late in all, but of one run 12 %: nobody knows what the next one brings."""
    alike = [a_run(0.03, seed=seed) for seed in range(4)]
    unlike = [a_run(0.0, seed=seed) for seed in range(3)] + [a_run(0.12, seed=9)]
    assert together(alike)["verdict"] == "met"
    found = together(unlike)
    assert (found["verdict"], found["effective"] < 200) == ("unproven", True)


def test_the_percentile_is_that_of_the_objective() -> None:
    found = together([a_run(0.02, objective=Objective(target=0.99), seed=seed) for seed in range(2)])
    assert found["percentile"] == "P99"
    assert found["percentiles_ms"] == [pytest.approx(300, abs=1)] * 2


def test_a_void_run_voids_them_all_and_the_least_duration_is_that_of_all() -> None:
    assert together([a_run(0.0), a_run(0.0, seed=2, void=True)])["verdict"] == "unproven"
    asks = Objective(longest_stall_s=1.0)
    assert together([a_run(0.0, objective=asks)])["verdict"] == "unproven", "40 s"
    assert together([a_run(0.0, objective=asks, seed=seed) for seed in range(2)])["verdict"] == "met"
