from collections.abc import Iterator
from pathlib import Path

import pytest

from slo.errors import EnvironmentProblem, StoreError
from slo.watch.alerting.rules import Rule
from slo.watch.history.event_log import read
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts
from slo.watch.remediation import (
    PastAction,
    Remediator,
    Remedy,
    RemedyLimits,
    Situation,
    Undo,
    effect,
    indicated,
    permitted,
)

LATENCY = Rule(alert="LatencyBudgetBurn", severity="critical", goal="latency")
WRONG = Rule(alert="CorrectnessBudgetBurn", severity="page", goal="correctness")
DEAD = Situation(server_up=True, model_up=False, rounds_gone=2)
SLOW = Situation(firing=(LATENCY,), server_up=True, model_up=True, queueing=True)
BAD, GOOD = Counts(0, 100), Counts(100, 100)
LIMITS = RemedyLimits(cool_down_s=600, per_hour=3, settle_s=300)


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        pytest.param(Situation(), [], id="nobody knows anything"),
        pytest.param(Situation(server_up=True, model_up=True), [], id="all is well"),
        pytest.param(Situation(server_up=True, model_up=False, rounds_gone=1), [], id="gone a moment ago"),
        pytest.param(DEAD, ["relaunch_model"], id="the model is gone"),
        pytest.param(Situation(server_up=False, rounds_down=2), [], id="down for two rounds"),
        pytest.param(Situation(server_up=False, rounds_down=3), ["restart_server"], id="down for three"),
        pytest.param(SLOW, ["shed"], id="slow, and queueing"),
        pytest.param(Situation(firing=(LATENCY,), server_up=True, model_up=True, cpu_busy=0.5), ["add_replica"],
                     id="slow, with room"),
        pytest.param(Situation(firing=(LATENCY,), server_up=True, model_up=True, cpu_busy=0.95), [],
                     id="slow, without room"),
        pytest.param(Situation(firing=(WRONG,), server_up=True, model_up=True), ["clear_cache"], id="wrong vectors"),
        pytest.param(Situation(firing=(Rule(alert="LatencyBudgetBurn", severity="ticket"),), model_up=True,
                               queueing=True), [], id="a ticket repairs nothing"),
    ],
)  # fmt: skip
def test_a_remedy_is_indicated_by_its_precondition(situation: Situation, expected: list[str]) -> None:
    assert indicated(situation) == expected


@pytest.mark.parametrize(
    ("enabled", "past_s", "expected"),
    [
        pytest.param(True, [], "relaunch_model", id="allowed"),
        pytest.param(False, [], "is off", id="off"),
        pytest.param(True, [100], "waits for the verdict", id="another one is not judged yet"),
        pytest.param(True, [400], "cools down", id="too soon"),
        pytest.param(True, [700, 1500, 2500], "more than 3 an hour", id="too many"),
        pytest.param(True, [700, 1500, 3700], "relaunch_model", id="an hour ago is forgotten"),
    ],
)
def test_a_remedy_is_bounded(enabled: bool, past_s: list[float], expected: str) -> None:
    past = [PastAction(remedy="relaunch_model", at_s=10_000 - ago_s) for ago_s in past_s]
    remedy, why = permitted(["relaunch_model"], {"relaunch_model": enabled}, past, 10_000, LIMITS)
    assert expected in (remedy or why)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(BAD, GOOD, "better", id="all good again"),
        pytest.param(BAD, BAD, "same", id="no better"),
        pytest.param(GOOD, BAD, "worse", id="worse"),
        pytest.param(Counts(50, 100), Counts(55, 100), "same", id="chance"),
        pytest.param(Counts(), GOOD, "better", id="answers again"),
        pytest.param(BAD, Counts(10, 10), "unknown", id="too few to tell"),
    ],
)
def test_the_effect_is_judged_beyond_chance(before: Counts, after: Counts, expected: str) -> None:
    assert effect(before, after) == expected


class World:
    """Executors that only take note."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.said: list[str] = []
        self.broken = False

    def relaunch(self) -> None:
        self.done.append("relaunch")
        if self.broken:
            raise EnvironmentProblem("no memory left")

    def shed(self) -> Undo:
        self.done.append("shed")
        return lambda: self.done.append("queue again")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "history.db") as opened:
        yield opened


def remediator(store: Store, world: World, *enabled: Remedy, dry_run: bool = False) -> Remediator:
    return Remediator(
        store,
        {"relaunch_model": world.relaunch, "shed": world.shed},
        enabled=dict.fromkeys(enabled, True),
        limits=LIMITS,
        dry_run=dry_run,
        report=world.said.append,
    )


def texts(store: Store) -> list[str]:
    return [event.text for event in read(store, "action", 0)]


def test_a_dead_model_is_relaunched_once_judged_and_recorded(store: Store, world: World) -> None:
    remedy = remediator(store, world, "relaunch_model")
    for minute in range(5):
        remedy.round(DEAD, BAD, 60.0 * minute)
    assert world.done == ["relaunch"]
    remedy.round(Situation(server_up=True, model_up=True), GOOD, 300)
    assert texts(store) == ["started", "better: bad requests 0/0 before, 0/100 after"]
    assert not remedy.failed


def test_what_did_not_help_is_undone_and_a_person_is_called(store: Store, world: World) -> None:
    remedy = remediator(store, world, "shed")
    remedy.round(SLOW, BAD, 0)
    remedy.round(SLOW, BAD, 300)
    assert world.done == ["shed", "queue again"]
    assert texts(store)[-1] == "undone"
    assert remedy.failed
    remedy.round(Situation(server_up=True, model_up=True), GOOD, 360)
    assert not remedy.failed


def test_what_helped_stays(store: Store, world: World) -> None:
    remedy = remediator(store, world, "shed")
    remedy.round(SLOW, BAD, 0)
    remedy.round(SLOW, GOOD, 300)
    assert world.done == ["shed"]


def test_a_dry_run_records_and_does_nothing(store: Store, world: World) -> None:
    remediator(store, world, "relaunch_model", dry_run=True).round(DEAD, BAD, 0)
    assert world.done == []
    assert texts(store) == ["dry run: would be carried out now"]


def test_an_executor_that_fails_is_recorded_and_the_limits_hold_all_the_same(store: Store, world: World) -> None:
    world.broken = True
    remedy = remediator(store, world, "relaunch_model")
    for minute in range(60):
        remedy.round(DEAD, BAD, 60.0 * minute)
    assert remedy.failed
    assert len(world.done) == LIMITS.per_hour
    assert "failed: no memory left" in texts(store)


def test_a_restarted_watcher_remembers_what_was_tried(store: Store, world: World) -> None:
    remediator(store, world, "relaunch_model").round(DEAD, BAD, 0)
    remediator(store, world, "relaunch_model").round(DEAD, BAD, 400)
    assert world.done == ["relaunch"]


def test_what_cannot_be_done_here_is_off_even_if_it_is_turned_on(store: Store, world: World) -> None:
    remediator(store, world, "restart_server").round(Situation(server_up=False, rounds_down=9), BAD, 0)
    assert (world.done, texts(store)) == ([], [])


def test_without_its_history_nothing_is_done_at_all(
    store: Store, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise StoreError("disk on fire")

    monkeypatch.setattr(store, "query", unreadable)
    remediator(store, world, "relaunch_model").round(DEAD, BAD, 0)
    assert world.done == []
    assert "disk on fire" in world.said[0]
