"""
Another model in the place of one that serves: proven first, then swapped; on any failure the former one is put back.

New files prove themselves before a model that serves is stopped for them, in a process of its own
(`slo.serve.engine.rehearsal`), with this Python, as the server's processes do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import replace
from typing import Any

from slo.deploy.job import LaunchJob
from slo.deploy.keeper_link import living_keeper
from slo.deploy.launch_plan import differences, without_secrets
from slo.deploy.process import kill_instance
from slo.deploy.registration import (
    OPENVINO,
    POLL_S,
    STOCK_ENGINE,
    ModelPlan,
    description,
    launch_body,
    same_model,
    wait_ready,
)
from slo.deploy.running import begin_launch, settled, states_of, stop_model
from slo.deploy.state import ServerState, write_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import DeployError, RegisterError, RequestError, SloError
from slo.tied import tied_command

PROGRAM = "slo.serve.engine.rehearsal"
PROGRESS = re.compile(r"openvino engine: ([a-z0-9 ]+ \d+ %)")  # as `slo.serve.engine.helper` prints it
TAIL_CHARACTERS = 600
AGAIN_S = (2.0, 10.0)  # what a failed launch has left may still be in the way


def prove(job: LaunchJob, plan: ModelPlan) -> None:
    """Load the files of `plan` and embed a few texts with them, beside the model that serves.

    Takes as long as a first start: conversion and quantisation included. Raises `DeployError` with what is wrong, if
    anything is, or if it takes longer than `server.launch_timeout`.
    """
    command = tied_command(
        PROGRAM, plan.engine, plan.device, plan.precision or "auto", plan.directory, str(job.models_dir)
    )
    environment = without_secrets(os.environ)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=said, env={**environment, "HF_HUB_OFFLINE": "1"}
        )
        try:
            code = _wait(job, process, said)
        finally:  # a process that ended already is not signalled
            process.kill()
            process.wait()
        out.seek(0)
        said.seek(0)
        answer, log = out.read(), said.read()
    if code == 0:
        dimension = int(answer.split()[-1])
        if dimension not in (-1, plan.dimension):
            raise DeployError(f"{plan.directory}: vectors of {dimension} numbers, its files promise {plan.dimension}")
        return
    if code == SloError.exit_code and answer:
        failure: dict[str, Any] = json.loads(answer.splitlines()[-1])
        raise DeployError(failure["message"], hint=failure["hint"])
    tail = " | ".join(line.strip() for line in log.splitlines() if line.strip())[-TAIL_CHARACTERS:]
    raise DeployError(
        f"{plan.directory}: the trial run ended with code {code}: {tail or 'no output'}",
        hint="-9 means that memory ran out: there is no room for both models at once; stop the old one first"
        if code == -9
        else None,
    )


def _wait(job: LaunchJob, process: subprocess.Popen[bytes], said: Any) -> int:
    patience_s, reached = job.config.server.launch_timeout, ""
    deadline_s = job.clock.monotonic() + patience_s
    while (code := process.poll()) is None:
        if (step := _last(said)) != reached:  # as for a launch: what gets on is waited for
            deadline_s, reached = job.clock.monotonic() + patience_s, step
        if job.clock.monotonic() > deadline_s:
            raise DeployError(
                f"the trial run of the new files has not got on for {patience_s:g} s",
                hint="`slo quantize` does the slow part ahead, or raise server.launch_timeout",
            )
        job.progress.busy(reached or "trying the new files beside the model that serves")
        job.clock.sleep(POLL_S)
    return code


def _last(said: Any) -> str:
    """What the trial last wrote about its slow work."""
    text = os.pread(said.fileno(), 1 << 16, max(0, os.fstat(said.fileno()).st_size - (1 << 16)))
    found = PROGRESS.findall(text.decode("utf-8", errors="replace"))
    return f"{found[-1]} (once per model)" if found else ""


def make_way(job: LaunchJob, api: XinferenceApi, state: ServerState, plan: ModelPlan) -> None:
    """Stop the model under the name of `plan`, if it has to be another one and the new files have proven themselves.

    Raises `DeployError` before anything was changed if they fail. From then on the launch's undoing puts the former
    model back.
    """
    states = settled(job, api, plan.uid)
    reasons = _reasons(api, state, plan, states) if states else []
    if not reasons:
        return
    job.progress.say(f"relaunching {plan.uid}: {', '.join(reasons)}")
    if "READY" in states:
        with job.progress.stage("trial"):
            _tried(job, api, plan)
        former = ModelPlan.from_json(state.model)
        if former is not None:
            job.undo.callback(_put_back, job, api, state, former)
    stop_model(job, api, plan.uid)


def _reasons(api: XinferenceApi, state: ServerState, plan: ModelPlan, states: set[str]) -> list[str]:
    """Why the running model has to go; empty if it may stay."""
    if not state.model:
        return ["was not launched by this configuration"]
    changed = differences(state.model, plan.to_json())
    if not changed and "ERROR" in states:
        return ["a replica failed"]
    known = None if changed or plan.builtin else api.registration(plan.name)
    if known is not None and not same_model(known, description(plan)):
        return ["it is registered as another one"]
    return changed


def _tried(job: LaunchJob, api: XinferenceApi, plan: ModelPlan) -> None:
    try:
        if plan.engine not in (OPENVINO, STOCK_ENGINE):
            # Cannot be tried beside the server; but it can say whether it has that engine at all.
            offered = api.engines(plan.name)
            if plan.engine not in offered:
                known = ", ".join(sorted(offered)) or "none"
                raise RegisterError(f"the server has no engine {plan.engine} for it, only: {known}")
            return
        prove(job, plan)
    except DeployError as error:
        raise DeployError(
            f"{error.message}. Nothing was changed: {plan.uid} goes on as it was", hint=error.hint
        ) from error
    job.progress.note("the new files answer")


def _put_back(job: LaunchJob, api: XinferenceApi, state: ServerState, former: ModelPlan) -> None:
    """Launch `former` again after its successor failed. Tells how that ends; never raises what can be expected."""
    say = job.progress.say
    say(f"{former.uid}: the launch failed; what served before is put back ({former.directory})", style="yellow")
    begun_s = job.clock.monotonic()
    for pause_s in (*AGAIN_S, None):
        try:
            _launch_former(job, api, state, former)
        except (DeployError, RequestError) as error:
            if pause_s is not None:
                say(f"{former.uid} could not be put back: {error.message}; once more in {pause_s:g} s")
                job.clock.sleep(pause_s)
            else:
                say(f"{former.uid} could not be put back: {error.message}", style="bold red")
                _start_anew(job, state, former)
        else:
            say(f"{former.uid} serves as before, after {job.clock.monotonic() - begun_s:.0f} s", style="yellow")
            return


def _launch_former(job: LaunchJob, api: XinferenceApi, state: ServerState, former: ModelPlan) -> None:
    if states_of(api, former.uid):
        stop_model(job, api, former.uid)
    wanted, known = description(former), api.registration(former.name)
    if not former.builtin and (known is None or not same_model(known, wanted)):
        api.unregister(former.name)
        api.register(json.dumps(wanted, ensure_ascii=False))
    begin_launch(job, api, former.uid, launch_body(former, job.models_dir))
    write_state(job.config.state_dir, replace(state, model=former.to_json()))
    wait_ready(
        api, former.uid, timeout_s=job.config.server.launch_timeout, clock=job.clock,
        still_running=lambda: None, on_progress=job.progress.busy,
    )  # fmt: skip


def _start_anew(job: LaunchJob, state: ServerState, former: ModelPlan) -> None:
    """The last resort: have the keeper start the server anew, which then launches what its record says."""
    if living_keeper(job.config.state_dir) is None:
        job.progress.say("launch it with --restart", style="bold red")
        return
    job.progress.say("its keeper starts the server anew, with the former model", style="bold red")
    # The record still holds the whole launch of the former model: a launch writes its own when it has succeeded.
    write_state(job.config.state_dir, replace(state, model=former.to_json(), launch={**state.launch, "ordered": True}))
    kill_instance(state.instance, clock=job.clock)
