"""The model as a stage of a launch: running as planned, and answering as it should."""

from __future__ import annotations

import re
from pathlib import Path

from slo.client import ApiKey, EmbeddingsClient
from slo.deploy.job import Job
from slo.deploy.model_files import ModelFiles
from slo.deploy.plan import differences
from slo.deploy.process import ensure_running
from slo.deploy.registration import ModelPlan, launch_body, wait_ready
from slo.deploy.state import ServerState, write_state
from slo.deploy.verify import first_verdict, verify
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import DeployError, RequestError
from slo.records import Summary

WARM_UP_TIMEOUT_S = 60.0
ENGINE_PROGRESS = re.compile(rb"openvino engine: ([a-z0-9 ]+ \d+ %)")  # as `slo.serve.helper` prints it
ENGINE_LOOK_BACK = 65536  # bytes of the log's end


def ensure_model(job: Job, api: XinferenceApi, state: ServerState, plan: ModelPlan) -> None:
    """The model of `plan` on our server: found, waited for, or launched in place of another."""
    changed = differences(state.model, plan.to_json()) if state.model else []
    states = {replica.get("status") for replica in api.replicas(plan.name)}
    if states and (changed or not state.model or "ERROR" in states or "TERMINATING" in states):
        why = ", ".join(changed) or "was not launched by this configuration"
        job.progress.say(f"relaunching {plan.name}: {why}")
        api.terminate(plan.name)
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
    """Begin to launch the model, to be terminated again if this launch does not end well."""
    job.changed = True

    def undo() -> None:
        try:
            api.cancel(plan.name)
            api.terminate(plan.name)
        except (DeployError, RequestError):
            pass  # nothing more can be done about a server that does not answer

    if not job.started:  # else the whole server goes, and faster
        job.undo.callback(undo)
    api.launch(launch_body(plan, job.models_dir))


def check_answers(job: Job, plan: ModelPlan, files: ModelFiles, key: ApiKey | None) -> Summary | None:
    """Verify the model; after a change also measure it for a first verdict."""
    config, progress = job.config, job.progress
    with EmbeddingsClient(config.endpoint, plan.name, api_key=key, timeout_s=WARM_UP_TIMEOUT_S) as client:
        with progress.stage("verify"):
            seen = verify(
                client, dimension=files.dimension, normalizes=files.normalizes, language=config.model.language
            )
            progress.note(
                f"{seen.dimension} dimensions, unit length, related {seen.related:.2f} > unrelated {seen.unrelated:.2f}"
            )
        if not job.changed:
            return None
        with progress.stage("measure"):
            first = first_verdict(client, config.slo, dimension=files.dimension)
            progress.note(str(first.judgement))
    return first
