"""Figures that a sceptic looks for: time from sending, every rung, interruptions, the interval of a capacity."""

from __future__ import annotations

from typing import Any

import pytest

from slo.records import Run
from slo.report.html import html_report, markdown_report
from slo.report.plots import capacity_curve, over_time, plots_of
from slo.report.story import tell
from slo.report.strings import LANGUAGES, Language, Words
from slo.samples import Sample
from tests.report.made_runs import capacity_run, run, stress_run

ENGLISH = Words("en")


def open_loop() -> Run:
    """Due at 0, sent 50 ms late, answered 40 ms after that."""
    return run("load", samples=[Sample(0.0, 0.05, 0.09, "ok", "short")] * 100, settings={"arrivals": "poisson"})


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_open_loop_shows_latency_from_the_due_moment_and_service_time_beside_it(language: Language) -> None:
    words = Words(language)
    text = markdown_report(tell([open_loop()], words), words)
    row = next(line for line in text.splitlines() if line.startswith(f"| {words('class.short')} |"))
    assert "90.0 ms" in row
    assert row.rstrip("| ").split(" | ")[-2] == "40.0 ms"
    assert words("service.note") in text
    assert words("service.note") in html_report(tell([open_loop()], words), words)


def test_a_closed_loop_has_no_such_column() -> None:
    assert "service" not in markdown_report(tell([stress_run()], ENGLISH), ENGLISH)


def test_every_rung_of_the_ladder_is_shown() -> None:
    made = capacity_run()
    rung = {"verdict": "met", "total": 500, "good": 495, "p95_ms": 80.0, "seconds": 15.0, "purpose": "ladder",
            "remark": "", "target": 0.95, "void": False}  # fmt: skip
    made.details["ladder"] = {"probes": [rung | {"load": 5}, rung | {"load": 10, "verdict": "missed"}], "largest": 5}
    text = markdown_report(tell([made], ENGLISH), ENGLISH)
    assert "| ladder | 5 | 500 | 99.00 % | 80.0 ms | Met |" in text
    assert "| ladder | 10 | 500 |" in text


def test_a_capacity_has_its_interval_and_a_search_that_nothing_stopped_is_a_lower_bound() -> None:
    made = capacity_run()
    made.details["searches"]["mix"] |= {"low": 50.1, "high": 54.9}
    assert "52.5/s (50.1 – 54.9)" in markdown_report(tell([made], ENGLISH), ENGLISH)
    made.details["searches"]["mix"]["bounded"] = False
    assert "≥ 52.5/s" in markdown_report(tell([made], ENGLISH), ENGLISH)


def slices(*starts: float) -> list[dict[str, Any]]:
    return [{"t": start, "seconds": 300.0, "p95_ms": 100.0, "p50_ms": 50.0} for start in starts]


def test_an_interruption_is_a_gap_in_the_line_and_no_slice_moves() -> None:
    made = run("stress", samples=[], details={"slices": slices(10, 310, 4000, 4300)})
    plot = over_time(made, ENGLISH)
    assert plot is not None
    assert list(plot.traces[0].y) == [100, 100, None, 100, 100]
    assert [round(float(x) * 60) for x in plot.traces[0].x] == [160, 460, 2305, 4150, 4450]


def test_slices_in_a_row_are_one_line() -> None:
    plot = over_time(run("stress", samples=[], details={"slices": slices(10, 310, 611)}), ENGLISH)
    assert plot is not None
    assert list(plot.traces[0].y) == [100, 100, 100]


def test_sessions_are_told_when_there_were_several() -> None:
    made = stress_run()
    assert "sessions" not in markdown_report(tell([made], ENGLISH), ENGLISH)
    made.details["sessions"] = 3
    assert "| sessions, with interruptions between | 3 |" in markdown_report(tell([made], ENGLISH), ENGLISH)


def test_where_a_capacity_search_failed_is_in_the_picture() -> None:
    plot = capacity_curve(capacity_run(), ENGLISH)
    assert plot is not None
    (missed,) = (trace for trace in plot.traces if trace.name == "missed")
    assert 80 in missed.x, "over 5 % failed there, and it has no P95"
    assert plot.limit is not None and all(y is not None and y > plot.limit for y in missed.y)
    assert "upper edge" in plot.note


def test_a_soak_of_which_too_much_failed_shows_its_good_share_and_no_empty_plot() -> None:
    rows = [row | {"p95_ms": None, "p50_ms": None, "total": 100, "good": 20} for row in slices(10, 310)]
    plots = {plot.key: plot for plot in plots_of(run("stress", samples=[], details={"slices": rows}), ENGLISH)}
    assert "over_time" not in plots
    assert list(plots["good_over_time"].traces[0].y) == [20, 20]
    assert plots["good_over_time"].limit == 95


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_plan_says_what_is_needed_and_judges_nothing(language: Language) -> None:
    words = Words(language)
    plan = {"wish": "500/s", "idle": {"fixed_s": 0.0057, "token_s": 0.0002}, "slowdown": 1.05, "capacity": 146.4,
            "unbatched": 77.8, "replicas": 5, "cores": 10, "cores_per_replica": 2, "p95_ms": 65.0, "check_rate": 117.2,
            "check_predicted_ms": 82.4, "check_measured_ms": 103.0}  # fmt: skip
    text = markdown_report(tell([run("plan", samples=[], details={"plan": plan})], words), words)
    assert (
        words("says.plan", wish=words("per_second", rate="500"), replicas=5, cores=10, objective="P95 ≤ 150 ms") in text
    )
    assert "10 (5 × 2)" in text
    assert words("plan.checked", predicted="82.4 ms", measured="103 ms") in text
    assert words("verdict.unproven") not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_plan_for_callers_says_how_many_are_held_here(language: Language) -> None:
    words = Words(language)
    plan = {"wish": "50 callers", "idle": {"fixed_s": 0.0057, "token_s": 0.0002}, "slowdown": 1.05, "capacity": 146.4,
            "unbatched": 77.8, "replicas": 2, "cores": 4, "cores_per_replica": 2, "p95_ms": 135.0,
            "check_measured_ms": None}  # fmt: skip
    callers = {"wished": 50, "held": 27, "cores": 2, "hit_ratio": 0.85, "p95_ms": 149.0, "computed_p95_ms": None}
    story = tell([run("plan", samples=[], details={"plan": plan, "callers": callers})], words)
    text = markdown_report(story, words)
    assert words("plan.held_by", number=27, cores=2) in text
    assert "85" in text.split(words("plan.repeated", number=50))[1].splitlines()[0]
    unknown = {**callers, "hit_ratio": None}
    story = tell([run("plan", samples=[], details={"plan": plan, "callers": unknown})], words)
    assert words("plan.repeated", number=50) not in markdown_report(story, words)


def test_a_proven_capacity_is_the_headline() -> None:
    assert "50.0/s, proven to meet P95 ≤ 150 ms at 95%" in markdown_report(tell([capacity_run()], ENGLISH), ENGLISH)


def test_the_slope_of_memory_has_its_interval_and_a_word() -> None:
    assert "MiB): no growth proven |" in markdown_report(tell([stress_run()], ENGLISH), ENGLISH)
