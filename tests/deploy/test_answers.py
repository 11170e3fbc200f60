"""What a launch makes of a first answer that is no embedding: one bad answer undoes nothing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from slo.clock import ManualClock
from slo.config import Config
from slo.deploy import model as stage
from slo.deploy.job import LaunchJob, Progress
from slo.deploy.machine import this_machine
from slo.deploy.model import Verified
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import BadRequest, Refused, RequestError, RequestTimeout, ServerFault, Unreachable
from tests.deploy.fake_api import FakeApi
from tests.deploy.test_relaunch import PLAN

GOOD = Verified(dimension=128, related=0.9, unrelated=0.1)
URL = "http://127.0.0.1:1"


def job_of(folder: Path) -> LaunchJob:
    config = Config.model_validate({"state_dir": folder / "state", "server": {"log": folder / "log"}})
    with (folder / "said").open("w", encoding="utf-8") as said:
        progress = Progress(Console(file=said, width=200))
    progress.say = lambda *_, **__: None  # type: ignore[method-assign]
    progress.busy = lambda *_: None  # type: ignore[method-assign]
    return LaunchJob(config=config, progress=progress, clock=ManualClock(), machine=this_machine(), undo=ExitStack())


def verified(job: LaunchJob, api: FakeApi, bad: list[RequestError], monkeypatch: pytest.MonkeyPatch) -> Verified:
    """The verdict when the first answers are `bad` and the next ones good."""

    def answer(*_: object, **__: object) -> Verified:
        if bad:
            raise bad.pop(0)
        return GOOD

    class Client:
        model = "m"

    monkeypatch.setattr(stage, "verify", answer)
    files: Any = type("Files", (), {"dimension": 128, "normalizes": True})
    return stage._verified(job, cast("XinferenceApi", api), cast("Any", Client()), files, PLAN)


@pytest.mark.parametrize("error", [BadRequest, ServerFault, RequestTimeout, Unreachable])
def test_one_bad_answer_undoes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[RequestError]
) -> None:
    job = job_of(tmp_path)
    job.changed = True
    api = FakeApi(cast("ManualClock", job.clock), "READY")
    assert verified(job, api, [error("HTTP 404: no such model", url=URL)], monkeypatch) == GOOD
    assert api.orders == []


def test_an_answer_that_stays_bad_is_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    job.changed = True
    api = FakeApi(cast("ManualClock", job.clock), "READY")
    with pytest.raises(BadRequest):
        verified(job, api, [BadRequest("no", url=URL) for _ in range(1000)], monkeypatch)


def test_a_server_full_of_users_requests_is_waited_for_and_never_relaunched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)
    api = FakeApi(cast("ManualClock", job.clock), "READY")
    assert verified(job, api, [Refused("busy", url=URL) for _ in range(300)], monkeypatch) == GOOD
    assert api.orders == []
