"""
The period over which an error budget is counted: rolling (`30d`, anything from `1h`) or calendar (`month`).

A rolling period ends now. A calendar period begins at local midnight of its first day (or at the full hour) in the
configured time zone, daylight saving included: a day may have 23 or 25 hours, and its budget follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

from slo.errors import ConfigError
from slo.units import parse_duration, show_duration

Unit = Literal["hour", "day", "week", "month", "quarter"]
_UNITS: tuple[Unit, ...] = ("hour", "day", "week", "month", "quarter")
_NOMINAL_S: dict[Unit, float] = {
    "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "quarter": 91 * 86400,
}  # fmt: skip
SHORTEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Period:
    """`unit` is None for a rolling period; `length_s` is then exact, else the nominal length."""

    length_s: float
    unit: Unit | None = None
    zone: str = "UTC"

    def bounds(self, now_s: float) -> tuple[float, float]:
        """Start and end, wall-clock seconds, of the period that holds `now_s`; a rolling one ends at `now_s`."""
        if self.unit is None:
            return now_s - self.length_s, now_s
        zone = _zone(self.zone)
        start = _floor(datetime.fromtimestamp(now_s, zone), self.unit)
        return start.timestamp(), _following(start, self.unit).timestamp()

    def __str__(self) -> str:
        return f"calendar {self.unit}" if self.unit else show_duration(self.length_s)


def parse_period(text: str, *, zone: str = "UTC") -> Period:
    """`30d`, `24h`, `1h` as rolling periods; `month`, `week`, `day`, `hour`, `quarter` as calendar ones."""
    word = text.strip().lower().removeprefix("calendar ").strip()
    _zone(zone)
    if word in _UNITS:
        return Period(_NOMINAL_S[word], word, zone)
    length_s = parse_duration(text)
    if length_s < SHORTEST_S:
        raise ConfigError(f"a budget period of {text} is too short", hint="give at least 1h")
    return Period(length_s, None, zone)


def day_left_s(now_s: float, zone: str) -> float:
    """Seconds until the next local midnight."""
    today = _floor(datetime.fromtimestamp(now_s, _zone(zone)), "day")
    return _following(today, "day").timestamp() - now_s


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(f"{name!r} is not a time zone", hint="write it like UTC or Asia/Shanghai") from error


def _floor(moment: datetime, unit: Unit) -> datetime:
    if unit == "hour":
        # By the timestamp: the second 02:00 of an autumn night is not the first, and local arithmetic forgets which.
        into_s = moment.minute * 60 + moment.second + moment.microsecond / 1e6
        return datetime.fromtimestamp(moment.timestamp() - into_s, moment.tzinfo)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if unit == "week":
        return day - timedelta(days=day.weekday())
    if unit == "month":
        return day.replace(day=1)
    if unit == "quarter":
        return day.replace(month=3 * ((day.month - 1) // 3) + 1, day=1)
    return day


def _following(start: datetime, unit: Unit) -> datetime:
    """Start of the next unit. Arithmetic on local dates, so that a day across daylight saving stays a day."""
    if unit == "hour":
        return datetime.fromtimestamp(start.timestamp() + 3600, start.tzinfo)
    if unit in ("day", "week"):
        return start + timedelta(days=1 if unit == "day" else 7)
    months = start.month - 1 + (1 if unit == "month" else 3)
    return start.replace(year=start.year + months // 12, month=months % 12 + 1)
