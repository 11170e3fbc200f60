import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.errors import StoreError
from slo.watch.alerting.alerts import Alert, AlertChange, Phase, alert_from_json, hold_s, step
from slo.watch.alerting.rules import Condition, Rule

AT_ONCE = Rule(alert="A", severity="page")
PATIENT = Rule(alert="A", severity="page", for_s=120)


def lived(rule: Rule, *conditions: bool | None) -> tuple[Alert, list[AlertChange | None]]:
    """The alert after one evaluation a minute, and what changed at each."""
    alert, changes = Alert(), []
    for index, active in enumerate(conditions):
        alert, change = step(alert, rule, Condition(active=active), 60.0 * index)
        changes.append(change)
    return alert, changes


@pytest.mark.parametrize(
    ("rule", "conditions", "expected"),
    [
        pytest.param(AT_ONCE, (True,), [AlertChange.FIRED], id="fires at once"),
        pytest.param(
            PATIENT, (True, True, True), [AlertChange.PENDING, None, AlertChange.FIRED], id="waits until it has lasted"
        ),
        pytest.param(PATIENT, (True, False), [AlertChange.PENDING, AlertChange.WITHDRAWN], id="gone before it fired"),
        pytest.param(
            PATIENT, (True, None, True), [AlertChange.PENDING, None, AlertChange.FIRED], id="no data changes nothing"
        ),
        pytest.param(AT_ONCE, (True, False, True), [AlertChange.FIRED, None, None], id="one good minute ends nothing"),
        pytest.param(
            AT_ONCE, (True, False, False), [AlertChange.FIRED, None, AlertChange.RESOLVED], id="two good minutes do"
        ),
        pytest.param(
            AT_ONCE, (True, False, None, None), [AlertChange.FIRED, None, None, None], id="no data is not good"
        ),
        pytest.param(AT_ONCE, (False, None), [None, None], id="nothing happens"),
    ],
)
def test_the_life_of_an_alert(
    rule: Rule, conditions: tuple[bool | None, ...], expected: list[AlertChange | None]
) -> None:
    assert lived(rule, *conditions)[1] == expected


def test_a_relapse_is_held_longer_each_time() -> None:
    alert, holds = Alert(), []
    now_s = 0.0
    for _ in range(4):
        alert, change = step(alert, AT_ONCE, Condition(active=True), now_s)
        assert change is AlertChange.FIRED
        holds.append(hold_s(alert, AT_ONCE, now_s))
        while alert.firing:
            now_s += 60
            alert, _ = step(alert, AT_ONCE, Condition(active=False), now_s)
        now_s += 60
    assert holds == [60, 600, 1200, 1200]


def test_a_relapse_after_an_hour_is_a_new_incident() -> None:
    alert = lived(AT_ONCE, True, False, False)[0]
    alert, _ = step(alert, AT_ONCE, Condition(active=True), 2 * 3600.0)
    assert alert.relapses == ()


def test_a_wall_clock_that_goes_back_neither_fires_nor_resolves_early() -> None:
    alert = lived(PATIENT, True, True)[0]
    alert, change = step(alert, PATIENT, Condition(active=True), -3600.0)
    assert (alert.phase, change) == (Phase.PENDING, None)


@pytest.mark.parametrize("conditions", [(), (True,), (True, False), (True, False, False, True)])
def test_its_state_survives_as_json(conditions: tuple[bool, ...]) -> None:
    alert = lived(AT_ONCE, *conditions)[0]
    assert alert_from_json(alert.to_json()) == alert


@pytest.mark.parametrize("data", [{}, {"phase": "sleeping", "relapses": []}, {"phase": "firing"}])
def test_a_state_that_is_none_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(StoreError):
        alert_from_json(data)


@given(st.lists(st.sampled_from([True, False, None]), max_size=120), st.sampled_from([0.0, 120.0, 300.0]))
@settings(max_examples=60)
def test_it_fires_only_when_the_condition_has_held_and_ends_only_when_it_has_been_clear(
    conditions: list[bool | None], for_s: float
) -> None:
    rule = Rule(alert="A", severity="page", for_s=for_s)
    alert, before = Alert(), Phase.INACTIVE
    known: list[bool] = []
    for index, active in enumerate(conditions):
        alert, change = step(alert, rule, Condition(active=active), 60.0 * index)
        if active is not None:
            known.append(active)
        if change is AlertChange.FIRED:
            assert before is not Phase.FIRING
            assert known[-1]
        if change is AlertChange.RESOLVED:
            assert before is Phase.FIRING
            assert known[-2:] == [False, False]
        if active is None:
            assert (alert.phase, change) == (before, None)
        before = alert.phase
