"""
Error budgets: the period over which one is counted, and its arithmetic; pure.

T is the target, B = 1 − T the budget as a share of requests (Google SRE Workbook, 5).

* attainment   good / total
* burn rate    b(w) = (bad/total over w) / B; 1 spends exactly the budget in one period, 1/B is the most there is
* consumed     bad in period / (B · total in period); may exceed 1
* remaining    1 − consumed; negative once overspent
* exhaustion   remaining · period / b(w), at constant traffic; never, when b(w) ≤ 1: a rolling period then forgets
               bad requests at least as fast as new ones come

All from counts; a percentage is never stored. A period is rolling (`30d`, anything from `1h`) and then ends now, or a
calendar one (`month`), which begins at local midnight of its first day (or at the full hour) in the configured time
zone, daylight saving included: a day may have 23 or 25 hours, and its budget follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

from slo.errors import ConfigError
from slo.units import parse_duration, show_duration
from slo.watch.model.counts import Counts, Slices
from slo.watch.model.objectives import Goal

Unit = Literal["hour", "day", "week", "month", "quarter"]
_UNITS: tuple[Unit, ...] = ("hour", "day", "week", "month", "quarter")
_NOMINAL_S: dict[Unit, float] = {
    "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "quarter": 91 * 86400,
}  # fmt: skip
SHORTEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class BudgetPeriod:
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


def parse_period(text: str, *, zone: str = "UTC") -> BudgetPeriod:
    """`30d`, `24h`, `1h` as rolling periods; `month`, `week`, `day`, `hour`, `quarter` as calendar ones."""
    word = text.strip().lower().removeprefix("calendar ").strip()
    _zone(zone)
    if word in _UNITS:
        return BudgetPeriod(_NOMINAL_S[word], word, zone)
    length_s = parse_duration(text)
    if length_s < SHORTEST_S:
        raise ConfigError(f"a budget period of {text} is too short", hint="give at least 1h")
    return BudgetPeriod(length_s, None, zone)


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


def attainment(counts: Counts) -> float:
    """Share of good requests; NaN without any."""
    return counts.good / counts.total if counts.total else math.nan


def burn_rate(counts: Counts, budget: float) -> float:
    """How many times faster than allowed the budget goes; NaN without requests."""
    return counts.bad_ratio / budget


def consumed(counts: Counts, budget: float) -> float:
    """Share of the period's budget that is spent: 0 untouched, 1 spent, above 1 overspent. 0 without requests."""
    return counts.bad / (budget * counts.total) if counts.total else 0.0


def exhaustion_s(remaining: float, period_s: float, burn: float) -> float:
    """Seconds until nothing is left at this burn rate: 0 when spent, infinite when it will not be."""
    if remaining <= 0:
        return 0.0
    if math.isnan(burn) or burn <= 1:
        return math.inf
    return remaining * period_s / burn


def may_still_fail(counts: Counts, budget: float, expected: float) -> int:
    """Requests that may still be bad among the `expected` next ones, with the whole then exactly within budget."""
    # 1e-9: 0.05 · 100 is 5.000000000000001 on some paths and 4.999… on others; a whole request is meant.
    return max(0, math.floor(budget * (counts.total + expected) - counts.bad + 1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """One goal's budget in one period. `recent` are the counts from which the present burn rate is taken.

    `counts` leave maintenance out, `with_maintenance` holds everything: both are reported. `observed_s` is how much of
    the period the history covers: a budget seen for an hour swings more than one seen for a month.
    """

    goal: Goal
    period: BudgetPeriod
    counts: Counts
    with_maintenance: Counts
    recent: Counts
    slices: Slices = field(default_factory=Slices)
    observed_s: float = 0.0
    expected_today: float = 0.0

    @property
    def attainment(self) -> float:
        return attainment(self.counts)

    @property
    def burn(self) -> float:
        return burn_rate(self.recent, self.goal.budget)

    @property
    def consumed(self) -> float:
        return consumed(self.counts, self.goal.budget)

    @property
    def remaining(self) -> float:
        return 1 - self.consumed

    @property
    def remaining_with_maintenance(self) -> float:
        return 1 - consumed(self.with_maintenance, self.goal.budget)

    @property
    def remaining_s(self) -> float:
        """What is left, as seconds of total outage at even traffic: 30 d at 95 % start with 36 h."""
        return max(0.0, self.remaining) * self.goal.budget * self.period.length_s

    @property
    def exhaustion_s(self) -> float:
        return exhaustion_s(self.remaining, self.period.length_s, self.burn)

    @property
    def may_still_fail_today(self) -> int:
        """Requests that may be bad until midnight, if traffic goes on as in the last day."""
        return may_still_fail(self.counts, self.goal.budget, self.expected_today)

    def __str__(self) -> str:
        return (
            f"{self.goal}: {self.counts.good}/{self.counts.total} good, "
            f"{self.remaining:.1%} of the {self.period} budget left, burning at {self.burn:.2f}×"
        )
