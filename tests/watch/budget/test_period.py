from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from slo.errors import ConfigError
from slo.watch.budget.period import day_left_s, parse_period


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
