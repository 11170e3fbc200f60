import pytest

from slo.errors import ConfigError
from slo.watch.model.objectives import Goal, parse_goal, parse_goals


@pytest.mark.parametrize(
    ("text", "expected", "event", "shown"),
    [
        pytest.param(
            "p95 <= 150ms",
            Goal(name="x", kind="latency", target=0.95, threshold_ms=150),
            "latency<=150ms",
            "P95 ≤ 150 ms",
            id="latency",
        ),
        pytest.param(
            "P99≤1s",
            Goal(name="x", kind="latency", target=0.99, threshold_ms=1000),
            "latency<=1000ms",
            "P99 ≤ 1000 ms",
            id="latency in seconds",
        ),
        pytest.param(
            "errors <= 0.2%",
            Goal(name="x", kind="availability", target=0.998),
            "availability",
            "errors ≤ 0.2 %",
            id="availability",
        ),
        pytest.param(
            "wrong<0.1 %",
            Goal(name="x", kind="correctness", target=0.999),
            "correctness",
            "wrong ≤ 0.1 %",
            id="correctness",
        ),
    ],
)
def test_a_goal_is_read_as_people_write_it(text: str, expected: Goal, event: str, shown: str) -> None:
    goal = parse_goal("x", text)
    assert (goal, goal.event, str(goal)) == (expected, event, shown)


@pytest.mark.parametrize("text", ["fast", "errors <= 0%", "errors <= 100%", "wrong <= .%", "p95 <= soon", ""])
def test_what_is_no_goal_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_goal("x", text)


def test_the_budget_is_the_number_that_was_written() -> None:
    assert [parse_goal("x", text).budget for text in ("p95 <= 150ms", "errors <= 0.2%")] == [0.05, 0.002]


def test_two_goals_that_promise_the_same_would_alert_twice() -> None:
    with pytest.raises(ConfigError, match="'a' and 'b' promise the same"):
        parse_goals({"a": "p95 <= 150ms", "b": "P95 ≤ 0.15s"})


def test_one_threshold_may_have_two_targets() -> None:
    goals = parse_goals({"a": "p95 <= 150ms", "b": "p50 <= 150ms"})
    assert goals[0].event == goals[1].event
    assert goals[0].slice_event != goals[1].slice_event
