"""A service that exists on paper only: minutes of traffic for the engine, on a manual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from slo.clock import ManualClock
from slo.stats import Histogram
from slo.watch.alerting.grouping import Notice
from slo.watch.alerting.round import Round, Settings
from slo.watch.alerting.rules import make_rulebook
from slo.watch.budget.budget import parse_period
from slo.watch.budget.burn import load_tables
from slo.watch.evaluator import Evaluator
from slo.watch.history.compaction import Retention
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Minute, Source
from slo.watch.model.objectives import Goal, parse_goals

GOALS = {"latency": "p95 <= 150ms", "availability": "errors <= 0.2%", "correctness": "wrong <= 0.1%"}
START_S = 1_700_000_040.0  # on the minute


def traffic(
    start_s: int, source: Source = "passive", /, *, good: int, slow: int = 0, failed: int = 0, wrong: int = 0
) -> Minute:
    """A minute with so many requests of each kind."""
    histogram = Histogram()
    for _ in range(good):
        histogram.observe(0.020)
    for _ in range(slow):
        histogram.observe(0.400)
    outcomes = {name: count for name, count in (("timeout", failed), ("bad_answer", wrong)) if count}
    checked = Counts(good + slow, good + slow + wrong)
    return Minute(start_s=start_s, source=source, histogram=histogram, outcomes=outcomes, checked=checked)


class Simulation:
    """The engine with a clock moved by hand; `told` is everything that people would have heard, with its time."""

    def __init__(self, store: Store, *, period: str = "30d", start_s: float = START_S) -> None:
        goals = parse_goals(GOALS)
        budget_period = parse_period(period)
        self.clock = ManualClock(wall_s=start_s)
        self.store = store
        self.told: list[tuple[float, Notice]] = []
        self.ids: list[str] = []
        self.heard: list[tuple[Round, Notice, str]] = []
        self.settings = Settings(
            goals=goals,
            rulebook=make_rulebook(goals, load_tables(), period=budget_period),
            period=budget_period,
            labels={"model": "gte-base-zh"},
            retention=Retention(period_s=budget_period.length_s),
        )
        self.engine = Evaluator(store, self.settings, enqueue=self.hear)

    def hear(self, found: Round, notice: Notice, event_id: str) -> None:
        """Take a message in, as the outbox would."""
        self.heard.append((found, notice, event_id))
        self.told.append((found.at_s, notice))
        self.ids.append(event_id)

    @staticmethod
    def goals() -> tuple[Goal, ...]:
        """The three goals."""
        return parse_goals(GOALS)

    def restart(self, *, enqueue: Callable[[Round, Notice, str], None] | None = None) -> None:
        """A new process with the same history."""
        self.engine = Evaluator(self.store, self.settings, enqueue=enqueue or self.hear)

    def minute(self, *minutes: Minute | None, **kinds: int) -> Round:
        """Let a minute pass with this traffic, and judge it."""
        self.clock.advance(60)
        now_s = self.clock.wall()
        slot_s = self.engine.slot_s(now_s)
        given = [minute for minute in minutes if minute is not None]
        if kinds:
            given.append(traffic(slot_s, **kinds))
        return self.engine.round(given, now_s)

    def run(self, minutes: int, kinds: Callable[[int], dict[str, int]] | dict[str, int]) -> None:
        """Let `minutes` pass."""
        for index in range(minutes):
            of_minute = kinds(index) if callable(kinds) else kinds
            self.minute(**of_minute)

    def pages(self) -> list[tuple[float, Notice]]:
        """What would have woken somebody."""
        return [
            (at_s, notice)
            for at_s, notice in self.told
            if notice.severity in ("critical", "page") and notice.kind != "resolved"
        ]


@contextmanager
def simulation(directory: Path, *, period: str = "30d") -> Iterator[Simulation]:
    """A fresh one, its history in `directory`."""
    with Store(directory / "history.db") as store:
        yield Simulation(store, period=period)
