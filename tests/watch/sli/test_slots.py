from itertools import pairwise

import pytest

from slo.watch.sli.slots import next_slot


@pytest.mark.parametrize(
    ("now_s", "last", "expected"),
    [
        pytest.param(185.0, None, 120, id="the first round closes the minute before it"),
        pytest.param(240.001, 120, 180, id="a round on time"),
        pytest.param(239.998, 120, 180, id="a few milliseconds early is not the same minute again"),
        pytest.param(299.0, 120, 180, id="late, but the minute is still the next"),
        pytest.param(900.0, 120, 840, id="after a pause the clock decides"),
        pytest.param(65.0, 7200, 0, id="a clock that was put back decides"),
    ],
)
def test_a_round_belongs_to_the_minute_after_the_last_one(now_s: float, last: int | None, expected: int) -> None:
    assert next_slot(now_s, last, 60) == expected


@pytest.mark.parametrize("jitter_s", [0.0, 0.4, -0.4])
def test_rounds_that_jitter_around_the_full_minute_leave_no_minute_out(jitter_s: float) -> None:
    slots, last = [], None
    for index in range(1, 50):
        last = next_slot(60.0 * index + jitter_s * (-1) ** index, last, 60)
        slots.append(last)
    assert [after - before for before, after in pairwise(slots)] == [60] * 48
