"""
The launch: look at the machine, find the files, start the server, register the model, launch it, check it.

Every step is done only where it is not done already, so that a second launch changes nothing and a half-finished one
is completed. What a failing or interrupted launch had started is undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from slo.clock import Clock, SystemClock
from slo.config import Config
from slo.deploy import auth, doctor, source
from slo.deploy.catalogue import find_family
from slo.deploy.checks import Level
from slo.deploy.exclusive import exclusive, interruptible
from slo.deploy.job import Launched, LaunchJob, Progress
from slo.deploy.keeper_link import start_keeper
from slo.deploy.launch_plan import Engine, absolute, choose_engine, model_plan, server_settings, suited
from slo.deploy.machine import Machine, this_machine
from slo.deploy.model import check_answers, ensure_model
from slo.deploy.process import append_log, log_tail
from slo.deploy.registration import OPENVINO, STOCK_ENGINE, ModelPlan, ensure_registered
from slo.deploy.relaunch import make_way
from slo.deploy.served_by import ENGINES, unmet_requirements
from slo.deploy.server import living_server, same_server, start_server, wait_for_workers
from slo.deploy.state import ServerState, read_state, write_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import (
    DeployError,
    EnvironmentProblem,
    Interrupted,
    RequestError,
    RequestTimeout,
    ServerFault,
    StartError,
    Unreachable,
)
from slo.http import ApiKey
from slo.model_files import ModelFiles, read_model, require_plain
from slo.model_store import prune
from slo.units import show_bytes


def launch(
    config: Config,
    progress: Progress,
    *,
    stock: bool = False,
    path_required: bool = False,
    machine: Machine | None = None,
    clock: Clock | None = None,
    hubs: Sequence[source.Hub] | None = None,
    revive: str | None = None,
) -> Launched:
    """Bring server and model up, or find them up.

    `stock` runs Xinference as it comes; `path_required` makes a missing model directory an error instead of a reason
    to look elsewhere. `revive` is the instance of a dead server of ours that is to come back as it was; if somebody has
    stopped or started it meanwhile, `Interrupted` is raised. Raises a `SloError` for everything that can be expected to
    go wrong.
    """
    config, clock = absolute(config), clock or SystemClock()
    start_s = clock.monotonic()
    lock = exclusive(config.state_dir, wait_s=config.server.start_timeout, clock=clock, on_wait=progress.say)
    with interruptible(), lock, ExitStack() as undo:
        job = LaunchJob(
            config=config, progress=progress, clock=clock, machine=machine or this_machine(), undo=undo, stock=stock,
            path_required=path_required, hubs=source.hubs(config.model) if hubs is None else hubs,
            revive=revive is not None,
        )  # fmt: skip
        if revive is not None and not _dead(config, revive):
            raise Interrupted("nothing is to be brought back: the server was stopped or started meanwhile")
        try:
            launched = _bring_up(job, start_s)
        except (Unreachable, RequestTimeout, ServerFault) as error:
            raise StartError(
                f"the server stopped answering: {error.message}",
                log_tail=log_tail(config.server.log, job.log_offset),
                hint=f"the whole story is in {config.server.log}",
            ) from error
        undo.pop_all()  # good: nothing is undone
        own = read_state(config.state_dir)
        if own is not None and own.launch != job.facts():
            write_state(config.state_dir, replace(own, launch=job.facts()))
        if config.server.restart and revive is None:
            start_keeper(config.state_dir, config.server.log)
    return launched


def _dead(config: Config, instance: str) -> bool:
    """Is the recorded server that one, and not alive?"""
    own = read_state(config.state_dir)
    return own is not None and own.instance == instance and not own.alive


def _bring_up(job: LaunchJob, start_s: float) -> Launched:
    config, progress = job.config, job.progress
    engine = choose_engine(config, stock=job.stock)
    with progress.stage("checks"):
        own = living_server(job)
        files = _files_on_disk(job, own)
        if not job.revive:
            _check(job, files, own)
    if files is None and config.model.download:
        with progress.stage("download"):
            downloaded = source.download(config.model, job.models_dir, progress.say, job.hubs)
            files = read_model(downloaded) if downloaded else None
            progress.note(str(downloaded) if downloaded else "not possible")
    if files is None:
        source.stand_in_directory(config.model, job.models_dir)  # refused here if it is refused at all
    if files is not None:
        engine = suited(engine, files.directory, job.models_dir)
        if engine.name == STOCK_ENGINE:
            require_plain(files.directory)
    if engine.reason:
        progress.say(engine.reason, style="yellow")
    if engine.name != OPENVINO:
        _tell_unmet(job, engine)
    settings = server_settings(config, engine, stock=job.stock)
    state = same_server(own, settings, config.state_dir) if own else start_server(job, settings)
    if files is None:  # while the server process is busy importing
        with progress.stage("stand-in"):
            files = source.stand_in(config.model, job.models_dir)
            progress.note(f"written to {doctor.shown(files.directory)}")
    if files.label:
        progress.say(f"{files.label} ({files.directory})", style="bold yellow")
    api = XinferenceApi(config.endpoint, account=auth.own_account(config.state_dir) if settings["auth"] else None)
    job.undo.callback(api.close)
    with progress.stage("server"):
        wait_for_workers(job, api, state)
        progress.note(f"{config.endpoint}, pid {state.pid}" + ("" if job.changed else ", was up"))
    if settings["extension"]:
        _announce(job, api, config.model.id)
    plan, count, key = _suited_model_up(job, api, state, files, engine)
    first = check_answers(job, api, plan, files, key)
    api.close()
    launched = Launched(
        endpoint=config.endpoint, plan=replace(plan, replicas=count), label=files.label, log=config.server.log,
        pid=state.pid, auth=settings["auth"],
        access=auth.describe(settings["auth"], key, config.endpoint), changed=job.changed,
        seconds=job.clock.monotonic() - start_s, stages=dict(progress.seconds), first=first,
    )  # fmt: skip
    if job.changed:
        with suppress(EnvironmentProblem):  # a full disk is no reason to undo a good launch
            append_log(config.server.log, str(launched), job.clock)
        _prune(job)
    return launched


def _tell_unmet(job: LaunchJob, engine: Engine) -> None:
    """What Xinference's engine needs for this model by its catalogue and does not find here: it may fail."""
    family = find_family(job.config.model.name, job.config.state_dir)
    if family is not None and engine.name in ENGINES and (unmet := list(unmet_requirements(family, engine.name))):
        job.progress.say(f"{family.name} needs {', '.join(unmet)}, by Xinference's catalogue", style="yellow")


def _suited_model_up(
    job: LaunchJob, api: XinferenceApi, state: ServerState, files: ModelFiles, engine: Engine
) -> tuple[ModelPlan, int, ApiKey | None]:
    """Bring the model up with `engine`, or with the one that it turns out to be for when it is converted.

    Returns what runs now, how many replicas of it are ready, and the key that its users need.
    """
    plan = model_plan(job.config, files, engine)
    try:
        return plan, *_model_up(job, api, state, plan)
    except DeployError:
        other = suited(engine, files.directory, job.models_dir)
        if other == engine:
            raise
    require_plain(files.directory)
    job.progress.say(other.reason, style="yellow")
    plan = model_plan(job.config, files, other)
    return plan, *_model_up(job, api, read_state(job.config.state_dir) or state, plan)


def _model_up(job: LaunchJob, api: XinferenceApi, state: ServerState, plan: ModelPlan) -> tuple[int, ApiKey | None]:
    """Bring the model of `plan` up on our server: how many replicas are ready, and the key that users need, if any."""
    make_way(job, api, state, plan)
    with job.progress.stage("registration"):
        job.progress.note(ensure_registered(api, plan))
    key = auth.ensure_api_key(api, job.config) if auth.wants_auth(job.config) else None
    with job.progress.stage("model"):
        count = ensure_model(job, api, state, plan)
    return count, key


def _prune(job: LaunchJob) -> None:
    """Remove graphs that were not used for long, beyond the bound. The model that serves now holds its own."""
    for entry in prune(job.models_dir, job.config.model.max_artefacts):
        job.progress.say(f"removed {entry.path}, not used for long ({show_bytes(entry.size_bytes)})")


def _announce(job: LaunchJob, api: XinferenceApi, name: str) -> None:
    """Tell the door that this name is coming: clients are to wait for it (503), not to give up (404)."""

    def tell(expected: bool) -> None:
        # A server of an older version does not know the order, and one that ends needs none.
        with suppress(DeployError, RequestError):
            api.control({"action": "expect", "model": name, "expected": expected})

    tell(True)
    job.undo.callback(tell, False)


def _files_on_disk(job: LaunchJob, own: ServerState | None) -> ModelFiles | None:
    """Model files that need no network; on a running server also the stand-in that it already uses."""
    files = source.on_disk(job.config.model, job.models_dir, required=job.path_required)
    if files is None and own and own.model.get("stand_in") and job.config.model.stand_in != "off":
        return source.stand_in(job.config.model, job.models_dir)
    return files


def _check(job: LaunchJob, files: ModelFiles | None, own: ServerState | None) -> None:
    checks = doctor.examine(job.config, job.machine, files, own=own)
    doctor.require(checks)
    warnings = [check for check in checks if check.level is Level.WARN]
    for check in warnings:
        job.progress.say(f"{check.name}: {check.value}; {check.fix}", style="yellow")
    job.progress.note(f"{len(checks)} done, {len(warnings)} warnings")
