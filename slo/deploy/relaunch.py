"""
Another model in the place of one that serves: proven first, then swapped; on any failure the former one is put back.
"""

from __future__ import annotations

import json
from dataclasses import replace

from slo.deploy.job import Job
from slo.deploy.keeper_link import living_keeper
from slo.deploy.plan import differences
from slo.deploy.process import kill_instance
from slo.deploy.proof import prove
from slo.deploy.registration import (
    OPENVINO,
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
from slo.errors import DeployError, RegisterError, RequestError

AGAIN_S = (2.0, 10.0)  # what a failed launch has left may still be in the way


def make_way(job: Job, api: XinferenceApi, state: ServerState, plan: ModelPlan) -> None:
    """Stop the model under the name of `plan`, if it has to be another one and the new files have proven themselves.

    Raises `DeployError` before anything was changed if they fail. From then on the launch's undoing puts the former
    model back.
    """
    states = settled(job, api, plan.name)
    reasons = _reasons(api, state, plan, states) if states else []
    if not reasons:
        return
    job.progress.say(f"relaunching {plan.name}: {', '.join(reasons)}")
    if "READY" in states:
        with job.progress.stage("trial"):
            _tried(job, api, plan)
        former = ModelPlan.from_json(state.model)
        if former is not None:
            job.undo.callback(_put_back, job, api, state, former)
    stop_model(job, api, plan.name)


def _reasons(api: XinferenceApi, state: ServerState, plan: ModelPlan, states: set[str]) -> list[str]:
    """Why the running model has to go; empty if it may stay."""
    if not state.model:
        return ["was not launched by this configuration"]
    changed = differences(state.model, plan.to_json())
    if not changed and "ERROR" in states:
        return ["a replica failed"]
    known = None if changed else api.registration(plan.name)
    if known is not None and not same_model(known, description(plan)):
        return ["it is registered as another one"]
    return changed


def _tried(job: Job, api: XinferenceApi, plan: ModelPlan) -> None:
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
            f"{error.message}. Nothing was changed: {plan.name} goes on as it was", hint=error.hint
        ) from error
    job.progress.note("the new files answer")


def _put_back(job: Job, api: XinferenceApi, state: ServerState, former: ModelPlan) -> None:
    """Launch `former` again after its successor failed. Tells how that ends; never raises what can be expected."""
    say = job.progress.say
    say(f"{former.name}: the launch failed; what served before is put back ({former.directory})", style="yellow")
    begun_s = job.clock.monotonic()
    for pause_s in (*AGAIN_S, None):
        try:
            _launch_former(job, api, state, former)
        except (DeployError, RequestError) as error:
            if pause_s is not None:
                say(f"{former.name} could not be put back: {error.message}; once more in {pause_s:g} s")
                job.clock.sleep(pause_s)
            else:
                say(f"{former.name} could not be put back: {error.message}", style="bold red")
                _start_anew(job, state, former)
        else:
            say(f"{former.name} serves as before, after {job.clock.monotonic() - begun_s:.0f} s", style="yellow")
            return


def _launch_former(job: Job, api: XinferenceApi, state: ServerState, former: ModelPlan) -> None:
    if states_of(api, former.name):
        stop_model(job, api, former.name)
    wanted, known = description(former), api.registration(former.name)
    if known is None or not same_model(known, wanted):
        api.unregister(former.name)
        api.register(json.dumps(wanted, ensure_ascii=False))
    begin_launch(job, api, former.name, launch_body(former, job.models_dir))
    write_state(job.config.state_dir, replace(state, model=former.to_json()))
    wait_ready(
        api, former.name, timeout_s=job.config.server.launch_timeout, clock=job.clock,
        still_running=lambda: None, on_progress=job.progress.busy,
    )  # fmt: skip


def _start_anew(job: Job, state: ServerState, former: ModelPlan) -> None:
    """The last resort: have the keeper start the server anew, which then launches what its record says."""
    if living_keeper(job.config.state_dir) is None:
        job.progress.say("launch it with --restart", style="bold red")
        return
    job.progress.say("its keeper starts the server anew, with the former model", style="bold red")
    # The record still holds the whole launch of the former model: a launch writes its own when it has succeeded.
    write_state(job.config.state_dir, replace(state, model=former.to_json(), launch={**state.launch, "ordered": True}))
    kill_instance(state.instance, clock=job.clock)
