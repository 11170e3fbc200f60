import pytest

from slo.objective import Objective, judge
from slo.stats import Histogram
from slo.watch.alerting.alerts import Alert, AlertChange, Phase
from slo.watch.alerting.grouping import Notice, NoticeKind, Tier
from slo.watch.alerting.round import Announcement, Round, WatchState, event_of, state_of
from slo.watch.alerting.rules import Rule
from slo.watch.model.notification import Severity
from slo.watch.model.silences import Maintenance

P95 = Objective()
GOOD, BAD, NONE = judge(300, 300, P95), judge(0, 300, P95), judge(0, 0, P95)
AGREED = Maintenance(id="m", starts_s=0, ends_s=60, reason="new weights", author="Li Lei")


def found(
    *firing: Severity, wake: NoticeKind | None = None, work: NoticeKind | None = None,
    resolved: tuple[Severity, ...] = (), maintenance: Maintenance | None = None,
) -> Round:  # fmt: skip
    """A round after which one alert of each of `firing` fires; `wake` and `work` are what the two groups were told."""
    rules = {severity: Rule(alert="A", severity=severity) for severity in (*firing, *resolved)}
    kinds: dict[Tier, NoticeKind | None] = {"wake": wake, "work": work}
    return Round(
        at_s=60, slot_s=0, windows={}, budgets=(), histogram=Histogram(), failed=0, sources={},
        alerts={rule.key: Alert(phase=Phase.FIRING if s in firing else Phase.INACTIVE) for s, rule in rules.items()},
        rules={rule.key: rule for rule in rules.values()},
        changes=tuple((rules[severity], AlertChange.RESOLVED) for severity in resolved),
        notices=tuple(
            (name, Notice(kind=kind, severity="page", rules=(), started_s=0, sequence=1))
            for name, kind in kinds.items() if kind
        ),
        maintenance=maintenance,
    )  # fmt: skip


@pytest.mark.parametrize("window", [GOOD, BAD, NONE], ids=["good", "bad", "empty"])
@pytest.mark.parametrize("measured", [True, False])
def test_while_an_alert_fires_the_word_is_its_severity_whatever_the_window_says(window: object, measured: bool) -> None:
    assert state_of(found("ticket", "critical"), window, measured=measured) is WatchState.CRITICAL  # type: ignore[arg-type]
    assert state_of(found("ticket"), window, measured=measured) is WatchState.TICKET  # type: ignore[arg-type]


def test_without_alerts_the_word_is_what_the_last_minutes_show() -> None:
    assert state_of(found(), GOOD, measured=True) is WatchState.OK
    assert state_of(found(), BAD, measured=True) is WatchState.MISSED
    assert state_of(found(), judge(285, 300, P95), measured=True) is WatchState.OK, "15 bad of 300 are allowed"
    assert state_of(found(), judge(284, 300, P95), measured=True) is WatchState.UNPROVEN
    assert state_of(found(), judge(279, 300, P95), measured=True) is WatchState.UNPROVEN, "21 bad of 300 may be chance"
    assert state_of(found(), judge(278, 300, P95), measured=True) is WatchState.MISSED, "22 bad of 300 are none"


def test_no_data_is_never_good_and_maintenance_is_neither_good_nor_bad() -> None:
    assert state_of(found(), GOOD, measured=False) is WatchState.NO_DATA
    assert state_of(found(maintenance=AGREED), GOOD, measured=True) is WatchState.EXCUSED
    assert state_of(found("page", maintenance=AGREED), GOOD, measured=True) is WatchState.PAGE


@pytest.mark.parametrize(
    ("round_", "event"),
    [
        pytest.param(found(), None, id="quiet"),
        pytest.param(found("critical", wake="firing"), Announcement.ALERT, id="the first"),
        pytest.param(found("critical"), None, id="it goes on"),
        pytest.param(found("critical", wake="repeat"), None, id="people are reminded"),
        pytest.param(found("critical", wake="joined"), None, id="another one joins"),
        pytest.param(found("ticket", "page", wake="firing"), Announcement.ALERT, id="worse than the ticket before"),
        pytest.param(found("critical", "page", wake="escalated"), Announcement.ALERT, id="it gets worse"),
        pytest.param(
            found("ticket", wake="resolved", resolved=("critical",)), Announcement.EASED, id="the page is over"
        ),
        pytest.param(found("ticket", wake="resolved", work="firing"), Announcement.ALERT, id="and a ticket begins"),
        pytest.param(found("page", work="resolved", resolved=("ticket",)), None, id="a ticket ends before the page"),
        pytest.param(found(wake="resolved", resolved=("ticket", "critical")), Announcement.RECOVERED, id="all end"),
        pytest.param(found(resolved=("ticket",)), Announcement.RECOVERED, id="the last one ends"),
    ],
)
def test_a_change_is_announced_once_and_a_recovery_only_when_nothing_fires(
    round_: Round, event: Announcement | None
) -> None:
    assert event_of(round_) is event


def test_states_have_exit_codes() -> None:
    codes = {state: state.exit_code for state in WatchState}
    assert {state for state, code in codes.items() if code == 0} == {WatchState.OK}
    assert {state for state, code in codes.items() if code == 3} == {
        WatchState.NO_DATA,
        WatchState.EXCUSED,
        WatchState.UNPROVEN,
    }
