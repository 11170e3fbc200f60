import pytest

from slo.objective import Objective, judge
from slo.watch.state import Event, State, event, following

P95 = Objective()
START, OK, BAD, NONE = State.STARTING, State.OK, State.VIOLATED, State.NO_DATA


@pytest.mark.parametrize(
    ("before", "good", "total", "after"),
    [
        pytest.param(START, 60, 60, OK, id="a good start"),
        pytest.param(START, 59, 60, OK, id="one slow probe at the start"),
        pytest.param(START, 0, 60, BAD, id="a bad start"),
        pytest.param(OK, 299, 300, OK, id="one slow probe"),
        pytest.param(OK, 279, 300, OK, id="21 bad of 300 may be chance"),
        pytest.param(OK, 278, 300, BAD, id="22 bad of 300 are none"),
        pytest.param(BAD, 284, 300, BAD, id="16 bad of 300 are not yet recovery"),
        pytest.param(BAD, 285, 300, OK, id="15 bad of 300 are"),
        pytest.param(BAD, 58, 58, BAD, id="too few probes for a recovery"),
        pytest.param(BAD, 59, 59, OK, id="enough probes"),
        pytest.param(NONE, 60, 60, OK, id="data again"),
        pytest.param(NONE, 0, 60, BAD, id="data again, and bad"),
    ],
)
def test_a_state_follows_from_the_one_before_and_the_window(before: State, good: int, total: int, after: State) -> None:
    assert following(before, judge(good, total, P95)) is after


@pytest.mark.parametrize("before", list(State))
def test_no_data_is_never_good(before: State) -> None:
    assert following(before, None) is NONE


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        (START, OK, None),
        (START, BAD, Event.ALERT),
        (START, NONE, Event.NO_DATA),
        (OK, BAD, Event.ALERT),
        (OK, NONE, Event.NO_DATA),
        (BAD, OK, Event.RECOVERED),
        (BAD, NONE, Event.NO_DATA),
        (NONE, OK, Event.RECOVERED),
        (NONE, BAD, Event.ALERT),
        *((state, state, None) for state in State),
    ],
)
def test_every_change_that_matters_is_announced_once(before: State, after: State, what: Event | None) -> None:
    assert event(before, after) is what


def test_states_have_exit_codes() -> None:
    assert [state.exit_code for state in (OK, BAD, NONE, START)] == [0, 1, 3, 3]
