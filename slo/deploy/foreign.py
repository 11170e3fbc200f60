"""
Launching the model on a Xinference that someone else runs: nothing is started or stopped there but the model.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from slo.clock import Clock, SystemClock
from slo.config import Config
from slo.deploy import auth, source
from slo.deploy.catalogue import STAND_IN_REVISION
from slo.deploy.exclusive import interruptible
from slo.deploy.job import Launched, LaunchJob, Progress
from slo.deploy.launch_plan import Engine, absolute, model_plan, suited
from slo.deploy.machine import this_machine
from slo.deploy.model import check_answers, start_model
from slo.deploy.registration import (
    OPENVINO,
    STOCK_ENGINE,
    ModelPlan,
    ensure_registered,
    wait_ready,
)
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import ModelSourceError, Unreachable
from slo.http import ApiKey, find_api_key
from slo.model_files import ModelFiles


def launch_on(
    config: Config, progress: Progress, *, path_required: bool = False, clock: Clock | None = None
) -> Launched:
    """Register, launch and check the model at `server.endpoint`; a model that runs there already is only checked.

    The model's folder must exist under the same path on this machine and on the server's.
    """
    config, clock = absolute(config), clock or SystemClock()
    start_s = clock.monotonic()
    key = find_api_key(config.client.api_key_file or config.state_dir / auth.KEY_FILE)
    with interruptible(), ExitStack() as undo:
        job = LaunchJob(config=config, progress=progress, clock=clock, machine=this_machine(), undo=undo)
        with progress.stage("server"):
            api = _connect(config, key)
            undo.callback(api.close)
            asks = api.auth_enabled()
            progress.note(f"{api.endpoint}, run by someone else" + (", asks for credentials" if asks else ""))
        running = bool(api.replicas(config.model.id))
        with progress.stage("model files"):
            files = _files(job, api, running=running, required=path_required)
            progress.note(str(files.directory) if files.weight_bytes else "not on this machine: as the server says")
        known = api.registration(config.model.name)
        if not running:
            with progress.stage("registration"):
                # Registered with the engine unknown: which engines there are depends on the registration.
                plan = _plan(config, files, Engine(name=STOCK_ENGINE, extension=False), known)
                progress.note("known already" if not files.weight_bytes else ensure_registered(api, plan))
                if known is None:
                    undo.callback(api.unregister, plan.name)
        plan = _plan(config, files, _engine(job, api, files), known)
        with progress.stage("model"):
            if not running:
                start_model(job, api, plan)
            count = wait_ready(
                api, plan.uid, timeout_s=config.server.launch_timeout, clock=clock, still_running=lambda: None,
                on_progress=progress.busy,
            )  # fmt: skip
            progress.note("was up: left as it is" if running else plan.engine)
        if asks and key is None:
            key = auth.ensure_api_key(api, config)
        first = check_answers(job, api, plan, files, key)
        undo.pop_all()
        api.close()
    return Launched(
        endpoint=config.endpoint, plan=replace(plan, replicas=count), label=files.label, log=None, pid=0, auth=asks,
        access=auth.describe(asks, key, config.endpoint), changed=job.changed,
        seconds=clock.monotonic() - start_s, stages=dict(progress.seconds), first=first,
    )  # fmt: skip


def _connect(config: Config, key: ApiKey | None) -> XinferenceApi:
    api = XinferenceApi(config.endpoint, account=auth.given_account(), key=key)
    if api.workers():
        return api
    api.close()
    raise Unreachable(
        f"{api.endpoint}: no Xinference with a worker answers there", url=api.endpoint, hint="is the address right?"
    )


def _plan(config: Config, files: ModelFiles, engine: Engine, known: dict[str, Any] | None) -> ModelPlan:
    """What shall run there: which models are built in, and where files lie that are not here, that server knows."""
    plan = model_plan(config, files, engine)
    return replace(
        plan,
        builtin=known is not None and bool(known.get("is_builtin")),
        directory=plan.directory if files.weight_bytes else "",
    )


def _files(job: LaunchJob, api: XinferenceApi, *, running: bool, required: bool) -> ModelFiles:
    """The model's files on this machine; of one that runs already or is known there, what its server says will do."""
    files = source.on_disk(job.config.model, job.models_dir, required=required, here=False)
    if files is not None:
        return files
    listed = [model for model in api.models() if model.get("id") == job.config.model.id] if running else []
    said = next(iter(listed), None) or api.registration(job.config.model.name)
    if said and said.get("dimensions"):
        return ModelFiles(
            directory=Path("/on/the/server"), architecture="unknown", dimension=int(said["dimensions"]),
            max_tokens=int(said.get("max_tokens") or 0), pooling="unknown", normalizes=False, weight_bytes=0,
            fp32_bytes=0, stand_in=said.get("model_revision") == STAND_IN_REVISION,
        )  # fmt: skip
    raise ModelSourceError(
        f"{job.config.model.path}: no such model directory on this machine",
        hint="give the folder with --model-path; it must have the same path on the server's machine",
    )


def _engine(job: LaunchJob, api: XinferenceApi, files: ModelFiles) -> Engine:
    """The engine of the running model, else the configured one if that server offers it and the files are for it."""
    name, asked = job.config.model.name, job.config.server.engine
    for model in api.models():
        if model.get("id") == job.config.model.id and model.get("model_engine"):
            return Engine(name=str(model["model_engine"]), extension=False)
    if asked == OPENVINO and OPENVINO not in api.engines(name):
        job.progress.say(f"engine {STOCK_ENGINE} instead of {OPENVINO}: that server does not have it", style="yellow")
        return Engine(name=STOCK_ENGINE, extension=False)
    engine = Engine(name=asked, extension=False)
    if files.weight_bytes:
        engine = suited(engine, files.directory, job.models_dir)
    if engine.reason:
        job.progress.say(engine.reason, style="yellow")
    return engine
