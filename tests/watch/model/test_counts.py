import pytest

from slo.samples import Sample
from slo.stats import Histogram
from slo.watch.model.counts import Counts, Minute, minute_of
from slo.watch.model.objectives import Goal, parse_goal

P95 = parse_goal("latency", "p95 <= 150ms")
ERRORS = parse_goal("availability", "errors <= 0.2%")
WRONG = parse_goal("correctness", "wrong <= 0.1%")


def sample(milliseconds: float, outcome: str = "ok") -> Sample:
    return Sample(0.0, 0.0, milliseconds / 1000, outcome, "short")


SAMPLES = [
    *[sample(20)] * 5, sample(150), sample(151), sample(20, "bad_answer"), sample(1, "refused"), sample(9, "timeout"),
    sample(1, "bad_request"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("goal", "passive", "probe"),
    [
        pytest.param(P95, Counts(6, 10), Counts(6, 11), id="latency: failures are bad"),
        pytest.param(ERRORS, Counts(8, 10), Counts(8, 11), id="availability: a wrong answer is an answer"),
        pytest.param(WRONG, None, Counts(7, 8), id="correctness: of the answers that were looked at"),
    ],
)
def test_each_goal_counts_its_own_and_a_callers_mistake_only_where_we_are_the_caller(
    goal: Goal, passive: Counts | None, probe: Counts
) -> None:
    assert minute_of(SAMPLES, start_s=0, source="passive", thresholds_ms=[150]).counts(goal) == passive
    assert minute_of(SAMPLES, start_s=0, source="probe", thresholds_ms=[150]).counts(goal) == probe


def test_requests_of_the_batch_class_are_events_of_availability_alone() -> None:
    outcomes = {"batch_answered": 90, "batch_failed": 10, "refused": 1}
    minute = Minute(start_s=0, source="passive", outcomes=outcomes)
    assert minute.counts(ERRORS) == Counts(90, 101)
    assert (minute.counts(P95), minute.total, minute.failures) == (Counts(0, 1), 1, {"refused": 1})
    assert not Minute(start_s=0, source="passive", outcomes={"batch_failed": 1}).empty


def test_an_answer_at_exactly_the_threshold_is_good_in_counts_and_in_the_histogram() -> None:
    minute = minute_of([sample(150)], start_s=0, source="probe", thresholds_ms=[150])
    assert (minute.counts(P95), minute.histogram.within(0.15)) == (Counts(1, 1), 1)


def test_a_threshold_between_edges_is_known_only_to_who_counted_it() -> None:
    goal = parse_goal("latency", "p95 <= 140ms")
    raw = minute_of([sample(139), sample(141)], start_s=0, source="probe", thresholds_ms=[140])
    assert raw.counts(goal) == Counts(1, 2)
    assert Minute(start_s=0, source="passive", histogram=raw.histogram).counts(goal) is None


def test_a_threshold_of_several_edges_is_answered_by_the_histogram() -> None:
    minute = Minute(start_s=0, source="passive", histogram=Histogram(), outcomes={"timeout": 3})
    for value in (0.01, 0.12, 0.16):
        minute.histogram.observe(value)
    assert minute.counts(P95) == Counts(2, 6)
    assert minute.counts(parse_goal("x", "p95 <= 125ms")) == Counts(2, 6)
