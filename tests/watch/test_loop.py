from collections.abc import Callable
from typing import Any

import pytest

from slo.clock import ManualClock
from slo.errors import StoreError, Unauthorized, Unreachable
from slo.objective import Objective
from slo.records import Sample
from slo.watch.loop import Report, Watcher, watch
from slo.watch.sli.probe import Tally
from slo.watch.state import State

P95 = Objective()
DAY_OF_MINUTES = 1440


class Fake:
    """A service by the minute: how many of 60 probes are bad, or None for a rejected key, or `-1` for an outage."""

    def __init__(self, *minutes: int | None) -> None:
        self.minutes = list(minutes)
        self.clock = ManualClock()

    def __call__(self) -> Tally:
        bad = self.minutes.pop(0)
        self.clock.advance(1.3)
        if bad is None:
            raise Unauthorized("HTTP 401", url="http://h")
        tally = Tally(P95)
        tally.add(Sample(0, 0, 0.01, "ok", "short"), None)
        if bad < 0:
            for _ in range(3):
                error = Unreachable("nobody answers there", url="http://h")
                tally.add(Sample(0, 0, 0.01, error.outcome, "short"), error)
            tally.lose(57)
            return tally
        for index in range(60):
            tally.add(Sample(0, 0, 0.3 if index < bad else 0.01, "ok", "short"), None)
        return tally


class Memory:
    def __init__(self, *, broken: bool = False) -> None:
        self.records: list[dict[str, Any]] = []
        self.broken = broken

    def append(self, record: dict[str, Any]) -> None:
        if self.broken:
            raise StoreError("disk full")
        self.records.append(record)


def watched(
    *minutes: int | None, store: Memory | None = None, complain: Callable[[str], None] = lambda _: None
) -> tuple[list[Report], State]:
    fake, reports = Fake(*minutes), list[Report]()
    watcher = Watcher(fake, P95, window_s=300, interval_s=60, model="m", clock=fake.clock)
    state = watch(
        watcher,
        interval_s=60,
        clock=fake.clock,
        store=store or Memory(),
        say=reports.append,
        complain=complain,
        times=len(minutes),
    )
    return reports, state


def events(*minutes: int | None) -> list[tuple[int, str]]:
    """(minute, event) of everything announced."""
    return [(index, report.event.value) for index, report in enumerate(watched(*minutes)[0]) if report.event]


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        pytest.param([0] * 10, [], id="healthy"),
        pytest.param([0, 0, 0, 0, 0, 1, 0, 0], [], id="one slow probe"),
        pytest.param([0] * 5 + [12] + [0] * 5, [], id="one bad burst in five good minutes"),
        pytest.param([0] * 5 + [60] + [0] * 6, [(5, "ALERT"), (10, "RECOVERED")], id="one minute down"),
        pytest.param([0] * 5 + [-1, -1] + [0] * 6, [(5, "ALERT"), (11, "RECOVERED")], id="an outage"),
        pytest.param([-1, -1, 0, 0, 0, 0, 0], [(0, "ALERT"), (6, "RECOVERED")], id="down from the start"),
        pytest.param([0, None, None, 0], [(1, "ALERT no data"), (3, "RECOVERED")], id="a rejected key"),
        pytest.param([60] * 9, [(0, "ALERT")], id="announced once"),
        pytest.param([3] * 60, [], id="at the very limit for an hour"),
    ],
)
def test_what_happens_is_announced_when_it_is_proven(
    minutes: list[int | None], expected: list[tuple[int, str]]
) -> None:
    assert events(*minutes) == expected


def test_a_steady_two_percent_bad_alarms_nobody_for_a_day() -> None:
    assert events(*([1, 1, 2, 1, 1] * (DAY_OF_MINUTES // 5))) == []


def test_the_lines_say_when_what_and_how_bad() -> None:
    reports, state = watched(0, -1, 0, 0, 0, 0, 0)
    lines = [line for report in reports for line in report.lines()]
    assert lines[0].endswith("ok        P95 10.0 ms ≤ 150 ms  60/60 good in 5m  now 60/60  m")
    assert "  ALERT m misses P95 ≤ 150 ms: P95 ∞ > 150 ms  60/120 good in 5m  now 0/60  m  OUTAGE: nobody" in lines[2]
    assert "  RECOVERED m holds P95 ≤ 150 ms again after 5m: P95 10.0 ms" in lines[-1]
    assert lines[0].startswith("2023-11-14T22:13:20.000Z  ")
    assert state is State.OK


def test_a_minute_without_data_says_why() -> None:
    reports, state = watched(None)
    lines = list(reports[0].lines())
    assert "no-data   nothing measured: HTTP 401" in lines[0]
    assert "ALERT no data about m: nobody knows whether P95 ≤ 150 ms holds" in lines[1]
    assert state is State.NO_DATA


def test_every_minute_is_recorded() -> None:
    store = Memory()
    watched(0, 60, None, store=store)
    assert [(r["good"], r["total"], r["state"], r["event"]) for r in store.records] == [
        (60, 60, "ok", None),
        (0, 60, "violated", "ALERT"),
        (0, 0, "no-data", "ALERT no data"),
    ]


def test_a_journal_that_cannot_be_written_is_reported_and_the_watch_goes_on() -> None:
    complaints: list[str] = []
    reports, _ = watched(0, 0, store=Memory(broken=True), complain=complaints.append)
    assert (len(reports), complaints) == (2, ["disk full", "disk full"])


def test_a_wall_clock_that_jumps_changes_neither_window_nor_duration() -> None:
    fake = Fake(*([0] * 3), -1, *([0] * 6))
    watcher = Watcher(fake, P95, window_s=300, interval_s=60, model="m", clock=fake.clock)
    reports = []
    for minute in range(10):
        if minute == 4:
            fake.clock.jump_wall(-7200)
        reports.append(watcher.check())
        fake.clock.advance(60 - 1.3)
    assert "again after 5m" in reports[8].announcement
