"""The figures that the watch promises, on a manual clock."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.errors import StoreError
from slo.watch.alerting.rules import NO_DATA_ALERT, STORE_ALERT
from slo.watch.history.event_log import add_maintenance, add_silence, read
from slo.watch.model.silences import Maintenance, Silence, parse_matcher
from tests.watch.simulated import Simulation, simulation, traffic

GOOD = {"good": 600}


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    with simulation(tmp_path) as simulated:
        simulated.run(60, GOOD)
        yield simulated


def page_after_minutes(sim: Simulation, since_s: float) -> float:
    """Minutes from `since_s` to the first message that wakes somebody."""
    return (sim.pages()[0][0] - since_s) / 60


@pytest.mark.parametrize(
    ("kinds", "most_minutes"),
    [
        pytest.param({"good": 0, "slow": 600}, 3, id="everything is slow"),
        pytest.param({"good": 0, "failed": 600}, 3, id="everything fails"),
        pytest.param({"good": 240, "slow": 360}, 6, id="60 % slow"),
        pytest.param({"good": 390, "slow": 210}, 30, id="35 % slow"),
        pytest.param({"good": 0, "slow": 60}, 3, id="everything is slow, then only probes"),
        pytest.param({"good": 24, "slow": 36}, 6, id="60 % slow, then only probes"),
        pytest.param({"good": 39, "slow": 21}, 30, id="35 % slow, then only probes"),
    ],
)
def test_a_breach_wakes_somebody_in_time(sim: Simulation, kinds: dict[str, int], most_minutes: float) -> None:
    assert not sim.told
    started_s = sim.clock.wall()
    sim.run(40, kinds)
    assert page_after_minutes(sim, started_s) <= most_minutes


@pytest.mark.parametrize("late", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_a_full_stall_that_begins_within_a_minute_wakes_somebody_within_three(sim: Simulation, late: float) -> None:
    good = round(600 * late)
    started_s = sim.clock.wall() + 60 * late
    sim.minute(good=good, slow=600 - good)
    sim.run(5, {"good": 0, "slow": 600})
    assert page_after_minutes(sim, started_s) <= 3


@pytest.mark.parametrize(
    "kinds",
    [{"good": 0, "slow": 600}, {"good": 240, "slow": 360}, {"good": 0, "failed": 600}],
    ids=["stall", "60 % slow", "everything fails"],
)
def test_recovery_is_told_within_two_minutes(sim: Simulation, kinds: dict[str, int]) -> None:
    sim.run(30, kinds)
    recovered_s = sim.clock.wall()
    sim.run(60, GOOD)
    (told_s,) = [at_s for at_s, notice in sim.told if notice.kind == "resolved" and notice.severity == "critical"]
    assert told_s - recovered_s <= 120


def test_an_incident_that_is_over_is_not_told_again_by_its_slower_alerts(sim: Simulation) -> None:
    sim.run(30, {"good": 0, "slow": 600})
    sim.run(8 * 60, GOOD)
    assert [notice.kind for _, notice in sim.told] == ["firing", "resolved"]


def test_hours_at_four_percent_wake_nobody(sim: Simulation) -> None:
    # The whole month: test_rulebook.py, without the disk.
    source = random.Random(4)
    for _ in range(4 * 60):
        slow = sum(source.random() < 0.04 for _ in range(100))
        sim.minute(good=100 - slow, slow=slow)
    assert sim.pages() == []


def test_one_bad_request_in_a_quiet_night_wakes_nobody(sim: Simulation) -> None:
    for _ in range(60):
        sim.minute()
    told = len(sim.told)
    sim.minute(good=0, failed=1)
    sim.run(30, {})
    assert [notice for _, notice in sim.told[told:] if notice.rules[0].alert != NO_DATA_ALERT] == []


def test_minutes_that_alternate_send_one_message_in_ten_minutes_at_most(sim: Simulation) -> None:
    sim.run(120, lambda index: {"good": 0, "slow": 600} if index % 2 else GOOD)
    assert len([1 for _, notice in sim.told if notice.severity == "critical"]) <= 120 / 10
    assert len(sim.told) <= 120 / 10


@given(st.lists(st.booleans(), min_size=30, max_size=80), st.integers(1, 6))
@settings(max_examples=5, deadline=None)
def test_no_pattern_of_good_and_bad_minutes_floods_people(
    tmp_path_factory: pytest.TempPathFactory, pattern: list[bool], stretch: int
) -> None:
    with simulation(tmp_path_factory.mktemp("flap")) as sim:
        sim.run(30, GOOD)
        minutes = [bad for bad in pattern for _ in range(stretch)]
        sim.run(len(minutes), lambda index: {"good": 0, "slow": 60} if minutes[index] else {"good": 60})
        # The first incident may begin and end at once; from then on one in ten minutes, for each of the two groups.
        assert len(sim.told) <= 2 * (3 + len(minutes) / 10)


def test_silence_of_the_service_is_an_alert_and_never_good(sim: Simulation) -> None:
    before = sim.minute(**GOOD).budgets[0].slices
    for _ in range(20):
        found = sim.minute()
    assert [notice.rules[0].alert for _, notice in sim.told] == [NO_DATA_ALERT]
    slices = found.budgets[0].slices
    assert slices.good - before.good == 5  # the last good minute's window, and four that still reached back to it
    assert slices.unknown > 0
    assert slices.bad > 0  # unknown is forgiven for ten minutes, not for ever
    sim.run(2, GOOD)
    assert sim.told[-1][1].kind == "resolved"


def test_maintenance_costs_no_budget_and_wakes_nobody(sim: Simulation) -> None:
    now_s = sim.clock.wall()
    add_maintenance(
        sim.store, Maintenance(id="m", starts_s=now_s, ends_s=now_s + 1800, reason="new weights", author="Li Lei")
    )
    sim.run(29, {"good": 0, "slow": 600})
    found = sim.minute(**GOOD)
    assert sim.told == []
    assert found.budgets[0].remaining == 1
    assert found.budgets[0].remaining_with_maintenance < 0
    sim.run(10, {"good": 0, "slow": 600})
    assert sim.pages()


def test_maintenance_declared_afterwards_gives_the_budget_back(sim: Simulation) -> None:
    now_s = sim.clock.wall()
    sim.run(10, {"good": 0, "slow": 600})
    assert sim.minute(**GOOD).budgets[0].remaining < 0.5
    add_maintenance(sim.store, Maintenance(id="m", starts_s=now_s, ends_s=now_s + 600, reason="r", author="a"))
    found = sim.minute(**GOOD)
    assert found.budgets[0].remaining == 1
    assert found.budgets[0].with_maintenance.bad == 6000


def test_a_silence_mutes_what_it_matches_and_nothing_else(sim: Simulation) -> None:
    now_s = sim.clock.wall()
    add_silence(sim.store, Silence(
        id="s", matchers=(parse_matcher("slo=latency"),), starts_s=now_s, ends_s=now_s + 3600, author="a", comment="c"
    ))  # fmt: skip
    sim.run(10, {"good": 0, "slow": 600})
    assert sim.told == []
    sim.run(10, {"good": 0, "failed": 600})
    assert {notice.rules[0].goal for _, notice in sim.told} == {"availability"}


def test_a_silence_that_ends_while_the_alert_fires_lets_it_be_heard(sim: Simulation) -> None:
    now_s = sim.clock.wall()
    add_silence(sim.store, Silence(
        id="s", matchers=(parse_matcher("slo=latency"),), starts_s=now_s, ends_s=now_s + 600, author="a", comment="c"
    ))  # fmt: skip
    sim.run(15, {"good": 0, "slow": 600})
    assert [(at_s - now_s) / 60 for at_s, _ in sim.pages()] == [10]


def test_a_restart_forgets_nothing_and_repeats_nothing(sim: Simulation) -> None:
    sim.run(10, {"good": 0, "slow": 600})
    told = list(sim.told)
    sim.restart()
    sim.run(10, {"good": 0, "slow": 600})
    assert sim.told == told
    sim.restart()
    sim.run(5, GOOD)
    assert [notice.kind for _, notice in sim.told] == ["firing", "resolved"]


def test_a_message_handed_over_before_a_kill_has_the_same_id_when_it_is_told_again(sim: Simulation) -> None:
    kill_while_telling(sim, {"good": 0, "slow": 600})
    sim.run(5, {"good": 0, "slow": 600})
    assert len(sim.ids) == 2
    assert len(set(sim.ids)) == 1
    kill_while_telling(sim, GOOD)
    sim.run(5, GOOD)
    assert [notice.kind for _, notice in sim.told] == ["firing", "firing", "resolved", "resolved"]
    assert len(set(sim.ids)) == 2
    changes = [event.text for event in read(sim.store, "alert", 0) if event.subject.endswith("latency/critical")]
    assert changes == ["firing", "resolved"], "and the history has each change once"


def kill_while_telling(sim: Simulation, kinds: dict[str, int]) -> None:
    """Minutes with this traffic until something is told; the process dies as the message has been handed over."""

    def killed(*told: Any) -> None:
        sim.hear(*told)
        raise KeyboardInterrupt

    sim.restart(enqueue=killed)
    with pytest.raises(KeyboardInterrupt):
        sim.run(30, kinds)
    sim.restart()


def test_no_two_messages_share_an_id_because_a_restart_forgot_the_first(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("database or disk is full")

    with monkeypatch.context() as disk:
        disk.setattr(sim.store, "put_state", full)
        sim.run(5, {"good": 0, "slow": 600})
        sim.run(30, GOOD)
    sim.restart()
    sim.run(60, GOOD)
    sim.run(5, {"good": 0, "slow": 600})
    sim.run(30, GOOD)
    of_latency = [i for i, (_, notice) in enumerate(sim.told) if notice.rules[0].goal == "latency"]
    assert [sim.told[i][1].kind for i in of_latency] == ["firing", "resolved"] * 2
    assert len(set(sim.ids)) == len(sim.ids)


def test_an_all_clear_is_not_taken_for_the_one_that_a_restart_forgot(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("database or disk is full")

    sim.run(5, {"good": 0, "slow": 600})
    with monkeypatch.context() as disk:
        disk.setattr(sim.store, "put_state", full)
        sim.run(60, GOOD)
        sim.run(5, {"good": 0, "slow": 600})
    sim.restart()
    sim.run(60, GOOD)
    kinds = [notice.kind for _, notice in sim.told if notice.rules[0].goal == "latency"]
    assert kinds == ["firing", "resolved", "firing", "resolved"]
    assert len(set(sim.ids)) == len(sim.ids)


def test_two_histories_never_share_message_ids(tmp_path: Path) -> None:
    ids = []
    for name in ("a", "b"):
        with simulation(tmp_path / name) as sim:
            sim.run(30, GOOD)
            sim.run(5, {"good": 0, "slow": 600})
            ids += sim.ids
    assert len(set(ids)) == len(ids) == 2


def test_attainment_and_burn_equal_a_recount_of_raw_events(tmp_path: Path) -> None:
    source, raw = random.Random(7), list[tuple[float, bool]]()
    with simulation(tmp_path, period="1h") as sim:
        for _ in range(200):
            good, slow = source.randrange(30), source.randrange(6)
            found = sim.minute(good=good, slow=slow) if good + slow else sim.minute()
            raw += [(found.slot_s + 30.0, True)] * good + [(found.slot_s + 30.0, False)] * slow
        end_s = found.slot_s + 60
        hour = [event for at_s, event in raw if at_s >= end_s - 3600]
        bad = hour.count(False) / len(hour)
        budget = found.budgets[0]
        assert abs(budget.attainment - (1 - bad)) < 1e-9
        assert abs(budget.burn - bad / 0.05) < 1e-9
        assert abs(budget.consumed - bad / 0.05) < 1e-9
        window = [event for at_s, event in raw if at_s >= end_s - 300]
        assert (found.windows["latency"].bad, found.windows["latency"].total) == (window.count(False), len(window))


def test_a_full_disk_is_told_and_what_was_counted_meanwhile_is_not_lost(
    sim: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sim.store.record

    def full(*_: object, **__: object) -> None:
        raise StoreError("database or disk is full")

    monkeypatch.setattr(sim.store, "record", full)
    for _ in range(10):
        found = sim.minute(good=0, slow=600)
    assert "full" in found.problem
    assert {rule.alert for rule in found.firing} >= {STORE_ALERT, "LatencyBudgetBurn"}
    monkeypatch.setattr(sim.store, "record", real)
    found = sim.minute(**GOOD)
    assert found.problem == ""
    assert found.windows["latency"].total == 5 * 600
    assert found.budgets[0].counts.bad == 6000


def test_sources_stay_apart_in_every_figure_that_is_shown(sim: Simulation) -> None:
    slot_s = sim.engine.slot_s(sim.clock.wall() + 60)
    found = sim.minute(traffic(slot_s, "passive", good=12), traffic(slot_s, "probe", good=60))
    assert found.sources == {"passive": 4 * 600 + 12, "probe": 60}


@pytest.mark.parametrize("jump_s", [-7200, 7200, 40 * 86400], ids=["back two hours", "ahead two hours", "ahead weeks"])
def test_a_wall_clock_that_jumps_breaks_nothing_and_wakes_nobody_for_lateness(sim: Simulation, jump_s: float) -> None:
    sim.clock.jump_wall(jump_s)
    sim.run(30, GOOD)
    assert [notice for _, notice in sim.told if notice.rules[0].alert != NO_DATA_ALERT] == []
    started_s = sim.clock.wall()
    sim.run(6, {"good": 0, "slow": 600})
    # Back: the minutes hold good requests of their first time already, and are half as bad as they are.
    assert page_after_minutes(sim, started_s) <= (3 if jump_s > 0 else 6)


def test_every_change_of_an_alert_is_in_the_history(sim: Simulation) -> None:
    sim.run(5, {"good": 0, "slow": 600})
    sim.run(5, GOOD)
    events = [event.text for event in read(sim.store, "alert", 0) if event.subject.endswith("latency/critical")]
    assert events == ["pending", "firing", "resolved"] or events == ["firing", "resolved"]


def test_no_all_clear_comes_while_less_urgent_trouble_goes_on_and_nobody_is_paged_twice(tmp_path: Path) -> None:
    """Half an hour of 30 % slow after ten minutes of all slow: critical ends, the page-level alert does not."""
    with simulation(tmp_path) as sim:
        sim.run(120, {"good": 60})
        sim.run(10, {"good": 0, "slow": 60})
        sim.run(30, {"good": 40, "slow": 20})
        told = [notice.kind for _, notice in sim.told if notice.severity in ("critical", "page")]
        assert told == ["firing", "joined"]
        sim.run(20, {"good": 60})
        told = [notice.kind for _, notice in sim.told if notice.severity in ("critical", "page")]
        assert told == ["firing", "joined", "resolved"]
