from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slo.clock import ManualClock
from slo.errors import BadAnswer, StoreError, Unauthorized, Unreachable
from slo.objective import Objective, judge
from slo.samples import Sample
from slo.stats import Histogram, histogram_of
from slo.watch.alerting.round import WatchState, state_of
from slo.watch.heartbeat import Heartbeat, read_beat
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Minute
from slo.watch.model.notification import Notification
from slo.watch.remediation import Remediator, RemedyLimits
from slo.watch.server_health import CpuTime, ServerHealth, cpu_time
from slo.watch.sli.probe import ProbeTally
from slo.watch.sli.sources import Collected
from slo.watch.watcher import Outside, Watcher
from tests.watch.simulated import Simulation

UP = ServerHealth(server_up=True, model_up=True)


def probes(good: int, bad: int = 0, lost: int = 0) -> ProbeTally:
    tally = ProbeTally(Objective())
    tally.add(Sample(0, 0, 0.01, "ok", "short"), None)  # opens the connection
    for index in range(good + bad):
        tally.add(Sample(0, 0, 0.01 if index < good else 0.4, "ok", "short"), None)
    for _ in range(lost):
        error = Unreachable("nobody answers", url="http://h")
        tally.add(Sample(0, 0, 0.001, error.outcome, "short"), error)
    return tally


def sent(tally: ProbeTally, number: int) -> ProbeTally:
    tally.sent = number
    return tally


def recut(histogram: Histogram, edges_s: tuple[float, ...]) -> Histogram:
    """As many requests, all of them fast, in a histogram with other edges."""
    return Histogram(edges_s, [histogram.total, *[0] * len(edges_s)])


class World:
    """A service, its users and a pager, moved by hand."""

    def __init__(self, directory: Path, store: Store) -> None:
        self.clock = ManualClock(wall_s=1_700_000_040.0)
        self.probed: Callable[[], ProbeTally] = lambda: probes(60)
        self.users: Collected | None = None
        self.health = UP
        self.sent: list[Notification] = []
        self.said: list[str] = []
        self.relaunched = 0
        self.full = True
        self.rejected = False
        self.full, self.sees_probes, self.blind = True, False, ""
        self.edges_s: tuple[float, ...] | None = None
        self.delivering = True
        self.engine = Watcher(
            store,
            Simulation(store).settings,
            Outside(
                source=self,
                probe=self.probe,
                health=lambda: self.health,
                hand_over=self.sent.append,
                deliver=lambda: None,
                complain=self.said.append,
                cpu=lambda: None,
                delivering=lambda: self.delivering,
                pace=self.pace,
            ),
            clock=self.clock,
            thin=60,
            runbook="docs/runbook.md",
            remediator=Remediator(store, {"relaunch_model": self.relaunch}, enabled={"relaunch_model": True},
                                  limits=RemedyLimits(), report=self.said.append),
            heartbeat=Heartbeat(directory, interval_s=60, complain=self.said.append),
        )  # fmt: skip

    def relaunch(self) -> None:
        self.relaunched += 1

    def probe(self) -> ProbeTally:
        if self.rejected:
            raise Unauthorized("HTTP 401", url="http://h")
        return self.probed()

    def collect(self, start_s: int) -> Collected:
        if self.users is None:
            return Collected(problem="no such page")
        return Collected(
            minutes=tuple(
                Minute(start_s=start_s, source=minute.source, outcomes=minute.outcomes,
                       histogram=minute.histogram if self.edges_s is None else recut(minute.histogram, self.edges_s))
                for minute in self.users.minutes
                if minute.total
            ),
            problem=self.blind, blind=bool(self.blind), sees_probes=self.sees_probes,
        )  # fmt: skip

    def pace(self, full: bool) -> None:
        self.full = full

    def state(self) -> dict[str, Any]:
        return {"read": self.clock.wall()}

    def rounds(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(60)
            self.engine.round()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "history.db") as opened:
        yield opened


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    return World(tmp_path, store)


def users(count: int) -> Collected:
    return Collected(minutes=(Minute(start_s=0, source="passive", histogram=histogram_of([0.02] * count)),))


def sources(store: Store) -> set[str]:
    return {minute.source for minute in store.minutes(0, 2e9)}


def test_where_users_are_enough_probes_tell_of_vectors_alone(world: World, store: Store) -> None:
    world.users = users(100)
    world.rounds(3)
    assert (world.full, sources(store), world.engine.measured) == (False, {"passive"}, {})
    assert store.counts_by_source("latency<=150ms", 0, 2e9) == {"passive": Counts(300, 300)}
    assert store.counts_by_source("correctness", 0, 2e9) == {"probe": Counts(183, 183)}


def test_wrong_vectors_page_though_users_are_many_and_their_requests_are_all_in_time(world: World) -> None:
    def wrong() -> ProbeTally:
        tally = ProbeTally(Objective(), opened=True)
        for _ in range(12):
            tally.look_at(BadAnswer("wrong vectors: 5 dimensions instead of 768", url=""))
        return tally

    world.users = users(1000)
    world.rounds(60)
    world.probed, started_s = wrong, world.clock.wall()
    world.rounds(3)
    assert (world.sent[0].severity, world.sent[0].starts_at_s - started_s <= 180) == ("critical", True)
    assert "CorrectnessBudgetBurn" in str(world.sent[0])


def test_probes_fill_in_where_users_are_few_and_rows_stay_apart(world: World, store: Store) -> None:
    world.users = users(3)
    world.rounds(3)
    assert (world.full, sources(store)) == (True, {"passive", "probe"})
    assert store.counts_by_source("latency<=150ms", 0, 2e9) == {"passive": Counts(9, 9), "probe": Counts(180, 180)}


def test_probes_that_the_server_counts_as_users_are_counted_once(world: World, store: Store) -> None:
    world.users, world.sees_probes = users(63), True
    world.probed = lambda: sent(probes(60), 63)
    world.rounds(3)
    assert (world.full, sources(store)) == (True, {"passive"}), "63 requests, and all of them ours: nobody else came"
    assert store.counts_by_source("latency<=150ms", 0, 2e9) == {"passive": Counts(189, 189)}
    world.users, world.probed = users(0), lambda: sent(probes(0, lost=60), 60)
    world.rounds(1)
    assert store.counts_by_source("latency<=150ms", 0, 2e9)["probe"] == Counts(0, 60), "it hangs, and counts nothing"


def test_requests_that_nobody_can_judge_are_no_ok_and_no_data_and_probes_judge_instead(
    world: World, store: Store
) -> None:
    world.users, world.edges_s = users(600), (0.1, 1.0)
    world.blind = "the server counts latencies at 100, 1000 ms, not at 150 ms"
    world.probed = lambda: ProbeTally(Objective())
    world.rounds(7)
    found = world.engine.round()
    assert (world.full, found.windows["latency"]) == (True, Counts())
    assert state_of(found, judge(0, 0, Objective()), measured=True) is not WatchState.OK
    assert "NoData" in {rule.alert for rule in found.firing}
    assert world.said.count(world.blind) == 1, "said once"
    world.probed = lambda: probes(60)
    world.rounds(1)
    assert store.counts_by_source("latency<=150ms", 0, 2e9) == {"probe": Counts(60, 60)}


def test_a_server_that_hangs_is_probed_at_once_and_pages_within_three_minutes(world: World) -> None:
    world.users = users(600)
    world.rounds(30)
    world.users, world.probed = Collected(), lambda: probes(0, lost=60)
    started_s = world.clock.wall()
    world.rounds(3)
    assert world.sent[0].severity == "critical"
    assert world.sent[0].starts_at_s - started_s <= 180
    assert "nobody answers" in world.sent[0].text_en


def test_a_rejected_key_is_no_statement_about_the_service(world: World, store: Store) -> None:
    world.rejected = True
    world.clock.advance(60)
    with pytest.raises(Unauthorized):
        world.engine.measure()
    assert world.engine.conclude().windows["latency"] == Counts()
    assert sources(store) == set()


def test_a_dead_model_is_relaunched_and_the_message_says_so(world: World) -> None:
    world.rounds(30)
    world.probed, world.health = lambda: probes(0, lost=60), ServerHealth(server_up=True, model_up=False)
    world.rounds(4)
    assert world.relaunched == 1
    world.probed, world.health = lambda: probes(60), UP
    world.rounds(3)
    assert world.sent[-1].status == "resolved"
    assert "relaunch_model: started" in world.sent[-1].text_en
    world.rounds(3)
    assert any("relaunch_model: better" in line for line in world.said)


def test_a_round_gives_a_sign_of_life_only_when_its_counts_are_kept(
    world: World, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.rounds(1)
    first = read_beat(tmp_path)
    assert first is not None

    def full(*_: object, **__: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(store, "record", full)
    world.rounds(3)
    assert read_beat(tmp_path) == first
    assert any("full" in line for line in world.said)


def test_a_watch_that_can_tell_nobody_gives_no_sign_of_life(world: World, tmp_path: Path) -> None:
    world.delivering = False
    world.rounds(1)
    assert read_beat(tmp_path) is None
    assert world.said == ["delivery: no alert can be sent at present; no heartbeat until one can"]
    world.delivering = True
    world.rounds(1)
    assert read_beat(tmp_path) is not None


def test_the_tally_of_a_round_has_the_exact_counts_of_users_and_probes(world: World) -> None:
    hour = histogram_of([0.02] * 95 + [0.4] * 4)
    world.users = Collected(minutes=(Minute(start_s=0, source="passive", histogram=hour, outcomes={"timeout": 1}),))
    tally = world.engine.measure()
    assert (tally.good, tally.total, tally.failures["timeout"], world.engine.measured) == (95, 100, 1, {"passive": 100})
    world.users = users(3)
    world.engine.conclude()
    tally = world.engine.measure()
    assert (tally.good, tally.total, world.engine.measured) == (63, 63, {"passive": 3, "probe": 60})


def test_cpu_shares_come_from_the_kernels_counters(tmp_path: Path) -> None:
    shares = CpuTime(200, 100, 30).shares_since(CpuTime(100, 60, 10))
    assert shares is not None
    assert shares == pytest.approx((0.4, 0.2))
    assert CpuTime(100, 60, 10).shares_since(CpuTime(100, 60, 10)) is None
    assert cpu_time(tmp_path / "none") is None
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 1 5 80 2 0 1 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n", encoding="ascii")
    assert cpu_time(stat) == CpuTime(total=106, idle=82, steal=7)


def test_a_model_that_is_listed_and_answers_nobody_counts_as_gone(world: World) -> None:
    world.health = ServerHealth(server_up=True, model_up=True, ready=False)
    world.rounds(2)
    assert world.relaunched == 0, "slow, perhaps, but somebody got an answer"
    world.probed = lambda: probes(0, lost=60)
    world.rounds(2)
    assert world.relaunched == 1
