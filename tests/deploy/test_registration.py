"""How long a launch waits for its model."""

from __future__ import annotations

from typing import cast

import pytest

from slo.clock import ManualClock
from slo.deploy.registration import wait_ready
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import RegisterError
from tests.deploy.fake_api import FakeApi


def wait(clock: ManualClock, steps: dict[float, str], *, ready_s: float) -> int:
    """`steps`: what the engine says from when on."""
    api, begun_s = FakeApi(clock, "CREATING"), clock.monotonic()
    api.later(ready_s, api.ready)
    return wait_ready(
        cast("XinferenceApi", api), "m", timeout_s=300.0, clock=clock, still_running=lambda: None,
        on_progress=lambda _: None,
        step=lambda: [text for since_s, text in steps.items() if clock.monotonic() >= begun_s + since_s][-1],
    )  # fmt: skip


def test_a_conversion_that_gets_on_is_waited_for_however_busy_the_machine_is() -> None:
    clock = ManualClock()
    steps = {0.0: "", **{200.0 * k: f"quantising {10 * k} %" for k in range(1, 11)}}
    assert wait(clock, steps, ready_s=2100.0) == 1


@pytest.mark.parametrize(
    ("steps", "gives_up_s", "words"),
    [({0.0: ""}, 300.0, "not ready after 300 s (replicas: CREATING)"),
     ({0.0: "", 250.0: "quantising 10 %"}, 550.0, "not ready after 300 s of 'quantising 10 %' (replicas: CREATING)")],
    ids=["that never says anything", "that stands still later on"],
)  # fmt: skip
def test_a_start_is_given_up(steps: dict[float, str], gives_up_s: float, words: str) -> None:
    clock = ManualClock()
    begun_s = clock.monotonic()
    with pytest.raises(RegisterError) as caught:
        wait(clock, steps, ready_s=5000.0)
    assert words in caught.value.message
    assert gives_up_s <= clock.monotonic() - begun_s < gives_up_s + 2
