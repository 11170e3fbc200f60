"""The model as a stage of a launch: running as planned, and answering as it should."""

from __future__ import annotations

import re
from pathlib import Path

from slo.client import ApiKey, EmbeddingsClient
from slo.deploy.job import Job
from slo.deploy.model_files import ModelFiles
from slo.deploy.plan import differences
from slo.deploy.process import ensure_running
from slo.deploy.registration import POLL_S, ModelPlan, launch_body, wait_ready
from slo.deploy.running import settled, states_of, stop_model
from slo.deploy.state import ServerState, write_state
from slo.deploy.verify import Verified, first_verdict, verify
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import (
    BadRequest,
    DeployError,
    Refused,
    RegisterError,
    RequestError,
    RequestTimeout,
    ServerFault,
    Unreachable,
)
from slo.records import Summary

WARM_UP_TIMEOUT_S = 60.0
ENGINE_PROGRESS = re.compile(rb"openvino engine: ([a-z0-9 ]+ \d+ %)")  # as `slo.serve.engine.helper` prints it
ENGINE_LOOK_BACK = 65536  # bytes of the log's end
ALREADY_THERE = "already in the model list"  # Xinference's words
GRACE_S = 3.0  # a process that died is noticed within half a second; until then it counts as ready


def ensure_model(job: Job, api: XinferenceApi, state: ServerState, plan: ModelPlan) -> None:
    """The model of `plan` on our server: found, waited for, or launched in place of another."""
    changed = differences(state.model, plan.to_json()) if state.model else []
    states = settled(job, api, plan.name)
    if states and (changed or not state.model or "ERROR" in states):
        why = ", ".join(changed) or ("a replica failed" if state.model else "was not launched by this configuration")
        job.progress.say(f"relaunching {plan.name}: {why}")
        stop_model(job, api, plan.name)
        states = set()
    if not states:
        start_model(job, api, plan)
    write_state(job.config.state_dir, state.with_model(plan.to_json()))
    log = job.config.server.log
    begun = log.stat().st_size if log.exists() else 0
    count = wait_ready(
        api, plan.name, timeout_s=job.config.server.launch_timeout, clock=job.clock,
        still_running=lambda: ensure_running(state, job.log_offset),
        on_progress=lambda states: job.progress.busy(engine_says(log, begun) or states),
    )  # fmt: skip
    job.progress.note(f"{plan.engine}, {count} replica{'s' if count > 1 else ''}" + ("" if job.changed else ", was up"))


def engine_says(log: Path, offset: int) -> str:
    """What our engine last wrote about its slow first work (`quantising 40 %`); empty when it has none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(offset, log.stat().st_size - ENGINE_LOOK_BACK))
        found = ENGINE_PROGRESS.findall(file.read())
    return found[-1].decode() + " (once per model)" if found else ""


def start_model(job: Job, api: XinferenceApi, plan: ModelPlan) -> None:
    """Begin to launch the model, to be terminated again if this launch does not end well.

    Refused because the model is there after all (nobody had seen its recovery begin), it is stopped first, once.
    """
    job.changed = True
    refused = False

    def undo() -> None:
        if refused:
            return  # what runs there now is not ours to end
        try:
            # In this order: to cancel a launch that has just ended would leave a model that nobody can stop.
            if not api.terminate(plan.name):
                api.cancel(plan.name)
                api.terminate(plan.name)
        except (DeployError, RequestError):
            pass  # nothing more can be done about a server that does not answer

    if not job.started:  # else the whole server goes, and faster
        job.undo.callback(undo)
    body = launch_body(plan, job.models_dir)
    try:
        try:
            api.launch(body)
        except RegisterError as error:
            if ALREADY_THERE not in error.message:
                raise
            job.progress.say(f"{plan.name} is still there: stopping it before it is launched")
            stop_model(job, api, plan.name)
            api.launch(body)
    except RegisterError:
        refused = True
        raise


def check_answers(
    job: Job, api: XinferenceApi, plan: ModelPlan, files: ModelFiles, key: ApiKey | None
) -> Summary | None:
    """Verify the model; after a change also measure it for a first verdict."""
    config, progress = job.config, job.progress
    with EmbeddingsClient(
        config.endpoint, plan.name, api_key=key, timeout_s=WARM_UP_TIMEOUT_S, source="probe"
    ) as client:
        with progress.stage("verify"):
            seen = _verified(job, api, client, files, plan if config.server.endpoint is None else None)
            progress.note(
                f"{seen.dimension} dimensions, unit length, related {seen.related:.2f} > unrelated {seen.unrelated:.2f}"
            )
        if not job.changed:
            return None
        with progress.stage("measure"):
            first = first_verdict(client, config.slo, dimension=files.dimension)
            progress.note(str(first.judgement))
    return first


def _verified(
    job: Job, api: XinferenceApi, client: EmbeddingsClient, files: ModelFiles, plan: ModelPlan | None
) -> Verified:
    """The verdict on the first answers.

    A model that fails since it has just died is given time to come back. One that counts as ready, was up before this
    launch, and fails all the same, has a process that died unnoticed: it is launched anew, once (`plan`, if allowed).
    """
    failing_since_s: float | None = None
    patience_s = job.clock.monotonic() + job.config.server.launch_timeout
    while True:
        try:
            return verify(
                client, dimension=files.dimension, normalizes=files.normalizes, language=job.config.model.language
            )
        except Refused:  # users' requests have filled the queue: the model is up, and busy
            if job.clock.monotonic() > patience_s:
                raise
            job.progress.busy("refused, the server is busy")
            job.clock.sleep(POLL_S)
        except (ServerFault, BadRequest, RequestTimeout, Unreachable):  # one bad answer undoes nothing
            states = states_of(api, client.model)
            failing_since_s = failing_since_s or job.clock.monotonic()
            if states and states != {"READY"}:
                failing_since_s = None
                _wait(job, api, client.model)
            elif job.clock.monotonic() - failing_since_s > GRACE_S:
                if job.changed or plan is None:
                    raise
                job.progress.say(f"relaunching {plan.name}: it counts as ready and does not answer", style="yellow")
                stop_model(job, api, plan.name)
                start_model(job, api, plan)
                _wait(job, api, plan.name)
                failing_since_s = None
            job.clock.sleep(POLL_S)


def _wait(job: Job, api: XinferenceApi, uid: str) -> None:
    wait_ready(
        api, uid, timeout_s=job.config.server.launch_timeout, clock=job.clock,
        still_running=lambda: None, on_progress=job.progress.busy,
    )  # fmt: skip
