"""A model that died, is dying, or only seems to live: what a launch makes of it, on a clock moved by hand."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from slo.clock import ManualClock
from slo.config import Config
from slo.deploy import model as stage
from slo.deploy.job import Job
from slo.deploy.machine import this_machine
from slo.deploy.model import ensure_model
from slo.deploy.progress import Progress
from slo.deploy.registration import ModelPlan
from slo.deploy.running import STOP_TIMEOUT_S, stop_model
from slo.deploy.state import ServerState
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import RegisterError
from tests.deploy.fake_api import FakeApi

PLAN = ModelPlan(
    name="m", directory="/m", dimension=128, max_tokens=512, language=("zh",), stand_in=True, engine="openvino",
    precision="auto", device="cpu", replicas=1, threads=2,
)  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(stage, "ensure_running", lambda *_: None)
    config = Config.model_validate({"state_dir": tmp_path / "state", "server": {"log": tmp_path / "log"}})
    with (tmp_path / "said").open("w", encoding="utf-8") as said:
        progress = Progress(Console(file=said, width=200))
    progress.say = lambda *_, **__: None  # type: ignore[method-assign]
    progress.busy = lambda *_: None  # type: ignore[method-assign]
    return Job(config=config, progress=progress, clock=ManualClock(), machine=this_machine(), undo=ExitStack())


def server(job: Job) -> ServerState:
    return ServerState(
        instance="i", endpoint="http://127.0.0.1:1", log=str(job.config.server.log), server={}, pid=1, created_s=0.0,
        metrics_port=1,
    )  # fmt: skip


def launch(job: Job, api: FakeApi, *, before: ModelPlan | None = PLAN) -> list[str]:
    """The orders that a launch gave; the model is ready after it."""
    state = server(job) if before is None else server(job).with_model(before.to_json())
    ensure_model(job, cast("XinferenceApi", api), state, PLAN)
    assert api.state == "READY"
    return api.orders


def fake(job: Job, state: str = "") -> FakeApi:
    return FakeApi(cast("ManualClock", job.clock), state)


def test_a_model_that_is_up_is_left_alone(job: Job) -> None:
    assert launch(job, fake(job, "READY")) == []
    assert not job.changed


def test_xinferences_own_recovery_is_waited_for_and_not_disturbed(job: Job) -> None:
    api = fake(job, "TERMINATING")
    api.launching = True
    api.later(17, api.ready)
    assert launch(job, api) == []
    assert job.clock.monotonic() >= 17


def test_a_recovery_that_fails_is_followed_by_a_launch(job: Job) -> None:
    api = fake(job, "TERMINATING")
    api.later(4, api.gone)
    assert launch(job, api) == ["launch"]


def test_a_recovery_without_end_is_an_error_in_time(job: Job) -> None:
    with pytest.raises(RegisterError, match="neither back nor gone after 300 s") as caught:
        launch(job, fake(job, "TERMINATING"))
    assert "--stop" in (caught.value.hint or "")
    assert job.clock.monotonic() < 301


def test_a_failed_replica_is_stopped_and_gone_before_the_launch(job: Job) -> None:
    assert launch(job, fake(job, "ERROR")) == ["terminate", "launch"]
    assert job.clock.monotonic() >= 2 + 5


def test_a_launch_under_way_with_other_settings_is_cancelled(job: Job) -> None:
    api = fake(job, "CREATING")
    api.launching = True
    assert launch(job, api, before=None) == ["terminate", "cancel", "terminate", "launch"]


def test_a_launch_refused_as_already_there_is_repeated_once(job: Job) -> None:
    api = fake(job)
    api.known = True  # to the supervisor, while no replica shows
    assert launch(job, api) == ["launch", "terminate", "launch"]


def test_a_launch_refused_twice_is_an_error_and_stops_nothing_of_others(job: Job) -> None:
    api = fake(job)

    def refuse(_: dict[str, Any]) -> None:
        api.orders.append("launch")
        raise RegisterError("Model is already in the model list, uid: m")

    api.launch = refuse  # type: ignore[method-assign]
    with pytest.raises(RegisterError, match="already in the model list"):
        launch(job, api)
    job.undo.close()
    assert api.orders == ["launch", "terminate", "launch"]


def test_a_launch_that_does_not_end_well_is_undone(job: Job) -> None:
    api = fake(job)
    launch(job, api)
    job.undo.close()
    assert api.orders == ["launch", "terminate"]


def test_an_interrupted_launch_is_cancelled_where_it_cannot_be_stopped(job: Job) -> None:
    api = fake(job)
    stage.start_model(job, cast("XinferenceApi", api), PLAN)
    job.undo.close()
    assert api.orders == ["launch", "terminate", "cancel", "terminate"]


def test_a_model_that_will_not_go_is_an_error_in_time(job: Job) -> None:
    api = fake(job, "READY")
    api.gone = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RegisterError, match="not gone 60 s after it was told to stop"):
        stop_model(job, cast("XinferenceApi", api), "m")
    assert job.clock.monotonic() < STOP_TIMEOUT_S + 1


def test_a_model_given_up_by_the_server_does_not_hold_a_launch_for_ever(job: Job) -> None:
    api = fake(job)
    api.later(3, api.gone)
    api.ready = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RegisterError, match="given the model up"):
        launch(job, api)
    assert job.clock.monotonic() < 30
