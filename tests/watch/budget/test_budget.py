from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.errors import ConfigError
from slo.watch.budget.budget import (
    Budget,
    attainment,
    burn_rate,
    consumed,
    day_left_s,
    exhaustion_s,
    may_still_fail,
    parse_period,
)
from slo.watch.model.counts import Counts, Slices
from slo.watch.model.objectives import parse_goal

P95 = parse_goal("latency", "p95 <= 150ms")
DAY = 86400.0


def budget(counts: Counts, recent: Counts | None = None, period: str = "30d") -> Budget:
    return Budget(
        goal=P95, period=parse_period(period), counts=counts, with_maintenance=counts, recent=recent or counts
    )


def test_the_figures_of_98_7_percent_attainment() -> None:
    found = budget(Counts(987, 1000))
    assert found.attainment == pytest.approx(0.987, abs=1e-12)
    assert found.burn == pytest.approx(0.26, abs=1e-9)
    assert found.remaining == pytest.approx(0.74, abs=1e-9)


def test_a_month_at_95_percent_starts_with_36_hours_of_outage() -> None:
    assert budget(Counts(100, 100)).remaining_s == pytest.approx(36 * 3600)


@pytest.mark.parametrize(
    ("remaining", "burn", "expected"),
    [
        pytest.param(0.5, 10.0, 1.5 * DAY, id="half of 30 days at ten times the pace"),
        pytest.param(1.0, 20.0, 1.5 * DAY, id="everything is bad"),
        pytest.param(0.5, 1.0, math.inf, id="just the pace that the budget allows"),
        pytest.param(0.5, 0.0, math.inf, id="nothing is bad"),
        pytest.param(0.5, math.nan, math.inf, id="no traffic"),
        pytest.param(0.0, 10.0, 0.0, id="spent"),
        pytest.param(-1.0, 0.0, 0.0, id="overspent"),
    ],
)
def test_time_to_exhaustion(remaining: float, burn: float, expected: float) -> None:
    assert exhaustion_s(remaining, 30 * DAY, burn) == expected


@pytest.mark.parametrize(
    ("counts", "expected_requests", "allowed"),
    [
        pytest.param(Counts(100, 100), 0, 5, id="five of a hundred"),
        pytest.param(Counts(95, 100), 0, 0, id="all of them used"),
        pytest.param(Counts(95, 100), 100, 5, id="five more with a hundred more to come"),
        pytest.param(Counts(0, 100), 0, 0, id="overspent is not a debt"),
        pytest.param(Counts(0, 0), 0, 0, id="no traffic"),
    ],
)
def test_requests_that_may_still_fail(counts: Counts, expected_requests: float, allowed: int) -> None:
    assert may_still_fail(counts, 0.05, expected_requests) == allowed


def test_without_requests_nothing_is_claimed() -> None:
    empty = budget(Counts())
    assert math.isnan(empty.attainment)
    assert math.isnan(empty.burn)
    assert (empty.consumed, empty.exhaustion_s) == (0.0, math.inf)


def test_unknown_windows_are_neither_good_nor_bad() -> None:
    assert Slices(9, 1, 90).attainment == 0.9
    assert math.isnan(Slices(unknown=5).attainment)
    assert Slices(1, 2, 3) + Slices(1, 1, 1) == Slices(2, 3, 4)


outcomes = st.lists(st.booleans(), min_size=1, max_size=300)


@given(outcomes, st.sampled_from([0.05, 0.01, 0.002]))
@settings(max_examples=60)
def test_figures_equal_a_recount_of_the_raw_events(events: list[bool], share: float) -> None:
    counts = Counts(sum(events), len(events))
    bad = [event for event in events if not event]
    assert abs(attainment(counts) - (1 - len(bad) / len(events))) < 1e-9
    assert abs(burn_rate(counts, share) - len(bad) / len(events) / share) < 1e-9
    assert abs(consumed(counts, share) - len(bad) / (share * len(events))) < 1e-9


@given(outcomes, outcomes)
@settings(max_examples=40)
def test_counts_of_two_parts_are_the_counts_of_the_whole(first: list[bool], second: list[bool]) -> None:
    parts = Counts(sum(first), len(first)) + Counts(sum(second), len(second))
    assert parts == Counts(sum(first + second), len(first + second))


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from([0.05, 0.002]))
@settings(max_examples=60)
def test_failing_all_that_may_fail_keeps_the_budget_and_one_more_breaks_it(
    total: int, bad: int, more: int, share: float
) -> None:
    bad = min(bad, total)
    allowed = may_still_fail(Counts(total - bad, total), share, more)
    if bad <= share * (total + more):
        assert bad + allowed <= share * (total + more) + 1e-6
        assert bad + allowed + 1 > share * (total + more)
    else:
        assert allowed == 0


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("text", "zone", "now", "start", "end"),
    [
        pytest.param("month", "UTC", "2026-02-14T12:00", "2026-02-01T00:00", "2026-03-01T00:00", id="month"),
        pytest.param("month", "UTC", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00", id="end of the year"),
        pytest.param("week", "UTC", "2026-11-25T12:00", "2026-11-23T00:00", "2026-11-30T00:00", id="week from Monday"),
        pytest.param("quarter", "UTC", "2026-11-25T12:00", "2026-10-01T00:00", "2027-01-01T00:00", id="quarter"),
        pytest.param("calendar day", "Asia/Shanghai", "2026-11-25T00:10", "2026-11-25T00:00", "2026-11-26T00:00",
                     id="day of the team's zone"),
        pytest.param("day", "Europe/Berlin", "2026-03-29T12:00", "2026-03-29T00:00", "2026-03-30T00:00",
                     id="day of 23 hours"),
        pytest.param("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-25T00:00", "2026-10-26T00:00",
                     id="day of 25 hours"),
    ],
)  # fmt: skip
def test_a_calendar_period_has_the_bounds_that_people_expect(
    text: str, zone: str, now: str, start: str, end: str
) -> None:
    assert parse_period(text, zone=zone).bounds(at(now, zone)) == (at(start, zone), at(end, zone))


def test_the_two_hours_of_an_autumn_night_are_two_periods() -> None:
    period = parse_period("hour", zone="Europe/Berlin")
    first, second = at("2026-10-25T02:30", "Europe/Berlin"), at("2026-10-25T02:30", "Europe/Berlin", fold=1)
    assert second - first == 3600
    assert period.bounds(first)[1] == period.bounds(second)[0]


def test_a_rolling_period_ends_now() -> None:
    assert parse_period("1h").bounds(10_000.0) == (6_400.0, 10_000.0)
    assert str(parse_period("30d")) == "30d"


@pytest.mark.parametrize("text", ["30m", "0", "fortnight"], ids=["under an hour", "nothing", "no such unit"])
def test_a_period_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_period(text)


def test_an_unknown_time_zone_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="not a time zone"):
        parse_period("30d", zone="Mars/Olympus")


def test_today_ends_at_local_midnight() -> None:
    assert day_left_s(at("2026-11-25T23:00", "Asia/Shanghai"), "Asia/Shanghai") == 3600
