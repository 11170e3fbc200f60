"""The former model after its successor failed: what the failure has left is waited for, tried again, or swept away."""

from __future__ import annotations

import os
import signal
from typing import Any, cast

import pytest

from slo.deploy import relaunch
from slo.deploy.job import LaunchJob
from slo.deploy.keeper_link import KeeperFacts
from slo.deploy.registration import description
from slo.deploy.running import SETTLE_S, stop_model
from slo.deploy.state import INSTANCE_VARIABLE, read_state, write_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import RegisterError
from tests.deploy.test_relaunch import OTHER, fake, job, server, swap

__all__ = ["job"]  # the fixture


@pytest.mark.parametrize("refusals", [1, 2, 3])
@pytest.mark.parametrize("kept", [True, False])
def test_what_a_failed_launch_has_left_does_not_keep_the_old_model_away(
    job: LaunchJob, monkeypatch: pytest.MonkeyPatch, refusals: int, kept: bool
) -> None:
    api, ended = fake(job, "READY"), list[str]()
    api.registered = description(OTHER)
    swap(job, api, monkeypatch)
    monkeypatch.setattr(relaunch, "living_keeper", lambda _: KeeperFacts(pid=1) if kept else None)
    monkeypatch.setattr(relaunch, "kill_instance", lambda instance, **_: ended.append(instance))
    refused = iter(["m-rep1 is running"] * refusals)
    launch_anyhow = api.launch

    def refuse(body: dict[str, Any]) -> None:
        if (reason := next(refused, None)) is not None:
            raise RegisterError(reason)
        launch_anyhow(body)

    monkeypatch.setattr(api, "launch", refuse)
    job.undo.close()
    given_up = refusals == 3
    assert (api.state == "READY") == (not given_up)
    assert ended == (["i"] if given_up and kept else []), (
        "its keeper starts the server anew, and the model of its record"
    )
    if given_up and kept:
        recorded = read_state(job.config.state_dir)
        assert recorded is not None and recorded.model == OTHER.to_json() and recorded.launch["ordered"]


def test_a_stop_waits_for_replicas_that_still_load_when_the_server_has_forgotten_them(job: LaunchJob) -> None:
    api = fake(job, "ERROR")
    write_state(job.config.state_dir, server(job))
    pid = os.posix_spawn("/bin/sleep", ["Model: m-rep1", "600"], {INSTANCE_VARIABLE: "i"})

    def end() -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    api.later(20, end)
    begun_s = job.clock.monotonic()
    api.known = False
    stop_model(job, cast("XinferenceApi", api), "m")
    assert job.clock.monotonic() - begun_s >= 20 + SETTLE_S
