"""A model that died, is dying, or only seems to live: what a launch makes of it, on a clock moved by hand."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from rich.console import Console

from slo.clock import ManualClock
from slo.config import Config
from slo.deploy import model as stage
from slo.deploy import relaunch
from slo.deploy.job import LaunchJob, Progress
from slo.deploy.machine import this_machine
from slo.deploy.model import ensure_model
from slo.deploy.registration import ModelPlan, description, ensure_registered
from slo.deploy.relaunch import make_way
from slo.deploy.running import STOP_TIMEOUT_S, stop_model
from slo.deploy.state import ServerState, read_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import DeployError, RegisterError
from tests.deploy.fake_api import FakeApi

PLAN = ModelPlan(
    name="m", directory="/m", dimension=128, max_tokens=512, language=("zh",), stand_in=True, engine="openvino",
    precision="auto", device="cpu", replicas=1, threads=2,
)  # fmt: skip


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaunchJob:
    monkeypatch.setattr(stage, "ensure_running", lambda *_: None)
    config = Config.model_validate({"state_dir": tmp_path / "state", "server": {"log": tmp_path / "log"}})
    progress = Progress(Console(file=io.StringIO(), width=200))
    progress.say = lambda *_, **__: None  # type: ignore[method-assign]
    progress.busy = lambda *_: None  # type: ignore[method-assign]
    return LaunchJob(config=config, progress=progress, clock=ManualClock(), machine=this_machine(), undo=ExitStack())


def server(job: LaunchJob) -> ServerState:
    return ServerState(
        instance="i", endpoint="http://127.0.0.1:1", log=str(job.config.server.log), server={}, pid=1, created_s=0.0,
        metrics_port=1,
    )  # fmt: skip


def launch(job: LaunchJob, api: FakeApi, *, before: ModelPlan | None = PLAN) -> list[str]:
    """The orders that a launch gave; the model is ready after it."""
    state = server(job) if before is None else server(job).with_model(before.to_json())
    make_way(job, cast("XinferenceApi", api), state, PLAN)
    ensure_model(job, cast("XinferenceApi", api), state, PLAN)
    assert api.state == "READY"
    return api.orders


def fake(job: LaunchJob, state: str = "") -> FakeApi:
    return FakeApi(cast("ManualClock", job.clock), state)


def test_a_model_that_is_up_is_left_alone(job: LaunchJob) -> None:
    assert launch(job, fake(job, "READY")) == []
    assert not job.changed


@pytest.mark.parametrize(
    ("there", "refuses", "orders", "count"),
    [
        pytest.param(1, False, ["add replica"] * 2, 3, id="completed"),
        pytest.param(1, True, ["add replica"], 1, id="what serves goes on"),
        pytest.param(4, False, [], 4, id="one more was added"),
    ],
)
def test_replicas_that_are_missing_are_added_and_those_that_run_are_counted(
    job: LaunchJob, there: int, refuses: bool, orders: list[str], count: int
) -> None:
    api, plan = fake(job, "READY"), replace(PLAN, replicas=3)
    api.added, api.refuses_more = there - 1, refuses
    state = server(job).with_model(plan.to_json())
    assert ensure_model(job, cast("XinferenceApi", api), state, plan) == count
    assert api.orders == orders
    assert job.changed == (count == 3)


def test_xinferences_own_recovery_is_waited_for_and_not_disturbed(job: LaunchJob) -> None:
    api = fake(job, "TERMINATING")
    api.launching = True
    api.later(17, api.ready)
    assert launch(job, api) == []
    assert job.clock.monotonic() >= 17


def test_a_recovery_that_fails_is_followed_by_a_launch(job: LaunchJob) -> None:
    api = fake(job, "TERMINATING")
    api.later(4, api.gone)
    assert launch(job, api) == ["launch"]


def test_a_recovery_without_end_is_an_error_in_time(job: LaunchJob) -> None:
    with pytest.raises(RegisterError, match="neither back nor gone after 300 s") as caught:
        launch(job, fake(job, "TERMINATING"))
    assert "--restart" in (caught.value.hint or "")
    assert job.clock.monotonic() < 301


def test_a_failed_replica_is_stopped_and_gone_before_the_launch(job: LaunchJob) -> None:
    assert launch(job, fake(job, "ERROR")) == ["terminate", "launch"]
    assert job.clock.monotonic() >= 2 + 5


def test_a_failed_launch_is_cleared_away_before_the_next_one_which_it_would_take_with_it(job: LaunchJob) -> None:
    api = fake(job, "ERROR")
    api.failed = True
    api.later(20, lambda: setattr(api, "failed", False))
    assert launch(job, api)[-1] == "launch"
    assert job.clock.monotonic() >= 20


def test_the_row_that_a_failed_launch_leaves_is_not_taken_for_the_next_one(job: LaunchJob) -> None:
    api = fake(job, "ERROR")
    api.known = False  # to the supervisor, who has cleared the launch away
    assert launch(job, api) == ["terminate", "launch"]


def test_a_launch_under_way_with_other_settings_is_cancelled(job: LaunchJob) -> None:
    api = fake(job, "CREATING")
    api.launching = True
    assert launch(job, api, before=None) == ["terminate", "cancel", "terminate", "launch"]


def test_a_launch_refused_as_already_there_is_repeated_once(job: LaunchJob) -> None:
    api = fake(job)
    api.known = True  # to the supervisor, while no replica shows
    assert launch(job, api) == ["launch", "terminate", "launch"]


def test_a_launch_refused_twice_is_an_error_and_stops_nothing_of_others(job: LaunchJob) -> None:
    api = fake(job)

    def refuse(_: dict[str, Any]) -> None:
        api.orders.append("launch")
        raise RegisterError("Model is already in the model list, uid: m")

    api.launch = refuse  # type: ignore[method-assign]
    with pytest.raises(RegisterError, match="already in the model list"):
        launch(job, api)
    job.undo.close()
    assert api.orders == ["launch", "terminate", "launch"]


def test_a_launch_that_does_not_end_well_is_undone(job: LaunchJob) -> None:
    api = fake(job)
    launch(job, api)
    job.undo.close()
    assert api.orders == ["launch", "terminate"]


def test_an_interrupted_launch_is_cancelled_where_it_cannot_be_stopped(job: LaunchJob) -> None:
    api = fake(job)
    stage.start_model(job, cast("XinferenceApi", api), PLAN)
    job.undo.close()
    assert api.orders == ["launch", "terminate", "cancel", "terminate"]


def test_a_model_that_will_not_go_is_an_error_in_time(job: LaunchJob) -> None:
    api = fake(job, "READY")
    api.gone = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RegisterError, match="not gone 60 s after it was told to stop"):
        stop_model(job, cast("XinferenceApi", api), "m")
    assert job.clock.monotonic() < STOP_TIMEOUT_S + 1


def test_a_model_given_up_by_the_server_does_not_hold_a_launch_for_ever(job: LaunchJob) -> None:
    api = fake(job)
    api.later(3, api.gone)
    api.ready = lambda: None  # type: ignore[method-assign]
    with pytest.raises(RegisterError, match="given the model up"):
        launch(job, api)
    assert job.clock.monotonic() < 30


OTHER = replace(PLAN, directory="/other", stand_in=False)


def swap(job: LaunchJob, api: FakeApi, monkeypatch: pytest.MonkeyPatch, problem: str = "") -> None:
    """A launch of PLAN in the place of OTHER, whose trial ends with `problem`."""

    def prove(*_: object) -> None:
        api.orders.append("trial")
        if problem:
            raise DeployError(problem)

    monkeypatch.setattr(relaunch, "prove", prove)
    state = server(job).with_model(OTHER.to_json())
    make_way(job, cast("XinferenceApi", api), state, PLAN)
    ensure_registered(cast("XinferenceApi", api), PLAN)
    ensure_model(job, cast("XinferenceApi", api), state, PLAN)


def test_files_that_fail_their_trial_leave_the_old_model_alone(job: LaunchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    api = fake(job, "READY")
    with pytest.raises(DeployError, match=r"weights are damaged\. Nothing was changed: m goes on as it was"):
        swap(job, api, monkeypatch, "the weights are damaged")
    job.undo.close()
    assert api.orders == ["trial"]
    assert api.state == "READY"


def test_the_old_model_goes_after_the_trial_of_the_new_one(job: LaunchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    api = fake(job, "READY")
    api.registered = description(OTHER)
    swap(job, api, monkeypatch)
    assert api.orders == ["trial", "terminate", "unregister", "register", "launch"]
    assert api.registered == description(PLAN)


def test_a_launch_that_fails_after_its_trial_puts_the_old_model_back(
    job: LaunchJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = fake(job, "READY")
    api.registered = description(OTHER)
    swap(job, api, monkeypatch)
    job.undo.close()
    assert api.state == "READY"
    assert api.registered == description(OTHER)
    assert api.orders[-4:] == ["terminate", "unregister", "register", "launch"]
    recorded = read_state(job.config.state_dir)
    assert recorded is not None
    assert recorded.model == OTHER.to_json()


def test_a_refused_registration_puts_the_old_model_back(job: LaunchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    api, registered = fake(job, "READY"), description(OTHER)
    api.registered = registered

    def register(description: str) -> None:
        if json.loads(description)["model_specs"][0]["model_uri"] != registered["model_specs"][0]["model_uri"]:
            raise RegisterError("Invalid model URI")
        api.registered = json.loads(description)

    monkeypatch.setattr(api, "register", register)
    with pytest.raises(RegisterError, match="Invalid model URI"):
        swap(job, api, monkeypatch)
    job.undo.close()
    assert (api.state, api.registered) == ("READY", registered)


def test_an_engine_that_the_server_lacks_stops_nothing(job: LaunchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    api = fake(job, "READY")
    api.engine_names = {"openvino", "sentence_transformers"}
    state = server(job).with_model(OTHER.to_json())
    with pytest.raises(DeployError, match="no engine vllm for it, only: openvino, sentence_transformers"):
        make_way(job, cast("XinferenceApi", api), state, replace(PLAN, engine="vllm"))
    assert (api.orders, api.state) == ([], "READY")


def test_a_plan_of_another_version_is_no_plan() -> None:
    assert ModelPlan.from_json(PLAN.to_json()) == PLAN
    assert ModelPlan.from_json({"name": "m"}) is None


def test_the_reason_of_a_failed_load_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "slo.errors.QuantizeError: of an earlier start\n==== now\n"
        "2026 ERROR xinference.core.worker Failed to load model m-rep0\nTraceback (most recent call last):\n"
        '  File "x.py", line 1, in load\n'
        "slo.errors.ModelSourceError: [address=127.0.0.1:1, pid=2] /m/tokenizer.json is no tokenizer\n"
        "ValueError: something that came of it\n",
        encoding="utf-8",
    )
    begun = len("slo.errors.QuantizeError: of an earlier start\n")
    assert stage.failure_in(log, begun, "m") == "/m/tokenizer.json is no tokenizer"
    assert stage.failure_in(log, begun, "other") == ""
    head, tail = log.read_text(encoding="utf-8").split("Traceback", 1)
    log.write_text(
        head + "  | Traceback" + tail.replace("\n", "\n  | "), encoding="utf-8"
    )  # as `slo.logrecords` has it
    assert stage.failure_in(log, begun, "m") == "/m/tokenizer.json is no tokenizer"
    assert stage.failure_in(log, 1 << 20, "m") == "/m/tokenizer.json is no tokenizer", "rotated meanwhile"
    assert stage.failure_in(tmp_path / "gone", 0, "m") == ""


def test_of_exceptions_that_led_to_one_another_the_one_that_was_raised_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "2026-11-28T05:17:39.740Z ERROR xinference.core.worker Failed to load model m-rep0\n"
        "slo.serve.engine.artefacts.NotMade: int8\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        "slo.errors.ModelSourceError: [address=127.0.0.1:1, pid=2] /m: the tokenizer cannot be read\n"
        "2026-11-28T05:17:39.793Z ERROR xinference.api another story\nValueError: of another record\n",
        encoding="utf-8",
    )
    assert stage.failure_in(log, 0, "m") == "/m: the tokenizer cannot be read"


def test_a_failed_launch_is_cleared_away_by_the_server_before_the_next_one(job: LaunchJob) -> None:
    """Cancelled or overtaken, the server's clearing would take the next launch of that name with it."""
    api = fake(job, "ERROR")
    api.launching = True
    api.later(3, api.gone)
    stop_model(job, cast("XinferenceApi", api), "m")
    assert "cancel" not in api.orders
    assert 3 <= job.clock.monotonic() < 4


def test_a_failed_launch_that_is_never_cleared_away_is_cancelled(job: LaunchJob) -> None:
    api = fake(job, "ERROR")
    api.launching = True
    stop_model(job, cast("XinferenceApi", api), "m")
    assert api.orders[-1] == "terminate"
    assert api.orders.count("cancel") == 1


@pytest.mark.parametrize(
    ("status", "said", "ending"),
    [
        pytest.param(200, "", "stopped", id="stopped"),
        pytest.param(400, "m-rep0 is launching", "launching", id="loading"),
        pytest.param(400, "Model not found in the model list, uid: m-rep0", "launching", id="no worker yet"),
        pytest.param(400, "Model not found in the model list, uid: m", "unknown", id="no such model"),
    ],
)
def test_what_becomes_of_an_order_to_stop(status: int, said: str, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api = XinferenceApi("http://127.0.0.1:1")
    answer = requests.Response()
    answer.status_code = status
    answer._content = json.dumps({"detail": f"[address=127.0.0.1:1, pid=2] {said}"}).encode()
    monkeypatch.setattr(api, "_send", lambda *_, **__: answer)
    assert api.terminate("m") == ending


def test_the_engines_own_reason_is_told(job: LaunchJob) -> None:
    api = fake(job)

    def refuse(_: dict[str, Any]) -> None:
        raise RegisterError("Model m cannot be run on engine openvino.")

    api.launch = refuse  # type: ignore[method-assign]
    api.reasons = {"openvino": "models of type 't5' are not supported"}
    with pytest.raises(RegisterError, match=r"engine openvino: models of type 't5' are not supported"):
        launch(job, api)
