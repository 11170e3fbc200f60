"""Whatever an objective says, a service that answers nobody in time wakes somebody within three minutes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.clock import ManualClock
from slo.config import Config
from slo.objective import Objective, judge
from slo.samples import Sample
from slo.serve.door.cache import Cache
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import Edges
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.watch.alerting.round import WatchState, state_of
from slo.watch.history.store import Store
from slo.watch.model.notification import Notification
from slo.watch.server_health import ServerHealth
from slo.watch.sli.probe import ProbeTally
from slo.watch.sli.sources import PassiveSource
from slo.watch.watcher import Outside, Watcher
from slo.watch.wiring import goals_of, settings_of

DIRECTORY = type("NoLanes", (), {"lanes": ()})()
TOLD = ("critical", "page")


class Service:
    """A server with users, watched under any objective; `known`: the server was launched with its threshold."""

    def __init__(self, store: Store, objective: str, *, known: bool, users: int) -> None:
        config = Config.model_validate({"objective": objective})
        self.objective: Objective = config.slo
        self.clock = ManualClock(wall_s=1_700_000_040.0)
        self._users, self._full, self._stalled = users, True, False
        self._telemetry = Telemetry(self.clock.monotonic, Edges(config.thresholds_ms if known else ()))
        page = Exposition(DIRECTORY, Cache(0), self._telemetry, Processes(lambda: []))
        self.sent: list[Notification] = []
        self.said: list[str] = []
        self.states: list[WatchState] = []
        self._patrol = Watcher(
            store,
            settings_of(config),
            Outside(
                source=PassiveSource(lambda _: page.text(), "http://h", model="m", clock=self.clock, interval_s=60,
                                     thresholds_ms=config.thresholds_ms),
                probe=self._probe, pace=self._pace, health=lambda: ServerHealth(server_up=True, model_up=True),
                hand_over=self.sent.append, deliver=lambda: None, complain=self.said.append, cpu=lambda: None,
            ),
            clock=self.clock, thin=config.watch.source.thin, runbook="docs/runbook.md",
        )  # fmt: skip
        self._goal = goals_of(config)[0].name

    def _pace(self, full: bool) -> None:
        self._full = full

    def _latency_s(self) -> float:
        threshold_s = self.objective.threshold_s
        return math.nextafter(threshold_s * 1.001, math.inf) if self._stalled else threshold_s / 2

    def _probe(self) -> ProbeTally:
        tally = ProbeTally(self.objective, opened=True)
        for _ in range(60 if self._full else 9):
            tally.add(Sample(0, 0, self._latency_s(), "ok", "short"), None)
        tally.sent = tally.total
        return tally

    def minutes(self, count: int, *, stalled: bool) -> None:
        self._stalled = stalled
        for _ in range(count):
            for _user in range(self._users):
                self._telemetry.request("m", "short", "2xx", cached=False, seconds=self._latency_s())
            self.clock.advance(60)
            found = self._patrol.round()
            counts = found.windows[self._goal]
            window = judge(counts.good, counts.total, self.objective)
            self.states.append(state_of(found, window, measured=True))


OBJECTIVES = st.builds(
    lambda percentile, threshold: f"p{percentile:g} <= {threshold:g}ms",
    st.sampled_from([50, 75, 80, 90, 95, 98, 98.5, 99, 99.5, 99.9]),
    st.integers(1, 10_000) | st.floats(1, 10_000),
)


@settings(max_examples=25, deadline=None)
@given(OBJECTIVES, st.booleans(), st.sampled_from([0, 3, 60]))
def test_a_full_stall_pages_within_three_minutes_at_every_threshold_and_percentile(
    tmp_path_factory: pytest.TempPathFactory, objective: str, known: bool, users: int
) -> None:
    with Store(tmp_path_factory.mktemp("stall") / "history.db") as store:
        service = Service(store, objective, known=known, users=users)
        service.minutes(20, stalled=False)
        assert service.sent == []
        assert set(service.states[1:]) == {WatchState.OK}
        began_s = service.clock.wall()
        service.minutes(3, stalled=True)
        assert [message.severity in TOLD for message in service.sent[:1]] == [True], objective
        assert service.sent[0].starts_at_s - began_s <= 180
        assert WatchState.OK not in service.states[-2:]


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[Service]:
    with Store(tmp_path / "history.db") as store:
        yield Service(store, "p95 <= 120ms", known=False, users=600)


def test_a_running_server_without_the_objectives_edge_is_named_with_its_edges_and_judged_by_probes(
    blind: Service,
) -> None:
    blind.minutes(3, stalled=False)
    (said,) = blind.said
    assert "counts latencies at 5, 10, 20, 30, 50, 75, 100, 125, 150" in said
    assert "not at 120 ms" in said
    assert "launched anew" in said
    blind.minutes(2, stalled=True)
    assert blind.sent[0].severity == "critical"
