"""
What becomes of a model that is neither up nor gone: wait for its recovery, or stop it and see it off.

Xinference brings a dead model process back by itself. For as long as that takes (a whole load of the model), the
replica says TERMINATING, as one does that is being stopped; an order to stop it is refused with "is launching", and a
launch with "already in the model list". Only its end tells which it was: READY, or gone.
"""

from __future__ import annotations

from typing import Any

from slo.deploy.job import LaunchJob
from slo.deploy.machine import program_of
from slo.deploy.registration import POLL_S
from slo.deploy.state import processes_of, read_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import RegisterError

ALREADY_THERE = "already in the model list"  # Xinference's words
STOP_TIMEOUT_S = 60.0
CLEARING_S = 5.0
# The server clears a launch away after it was cancelled, by name: a new one that began meanwhile would be lost with it,
# and end in "the model does not exist".
SETTLE_S = 1.0
ENDED = frozenset({"ERROR", "TERMINATED"})  # rows that the server keeps of replicas which are no more
RESTART_HINT = "the server is stuck: slo launch --restart"


def _loading(job: LaunchJob, api: XinferenceApi, uid: str) -> list[int]:
    """Pids of processes of the model on our server.

    When one replica of a launch fails, the server forgets the others while they still load, and clears away by name
    once they have ended: what was launched under that name meanwhile would go with them.
    """
    own = read_state(job.config.state_dir)
    if own is None or own.endpoint != api.endpoint:
        return []
    title = f"Model: {uid}-rep"  # as Xinference calls them
    return [process.pid for process in processes_of(own.instance) if program_of(process, length=300).startswith(title)]


def begin_launch(job: LaunchJob, api: XinferenceApi, uid: str, body: dict[str, Any]) -> None:
    """Begin to launch the model. Refused because it is there after all (nobody saw it), it is stopped first, once."""
    try:
        api.launch(body)
    except RegisterError as error:
        if ALREADY_THERE not in error.message:
            raise
        job.progress.say(f"{uid} is still there: stopping it before it is launched")
        stop_model(job, api, uid)
        api.launch(body)


def states_of(api: XinferenceApi, uid: str) -> set[str]:
    """The states that the model's replicas are in; empty if there is no such model."""
    return {str(replica.get("status")) for replica in api.replicas(uid)}


def settled(job: LaunchJob, api: XinferenceApi, uid: str) -> set[str]:
    """The states of the replicas once none of them is on its way out, or back. Raises `RegisterError` in time."""
    deadline_s = job.clock.monotonic() + job.config.server.launch_timeout
    told = False
    while "TERMINATING" in (states := states_of(api, uid)):
        if not told:
            job.progress.say(f"{uid} has died or is being stopped: waiting for what becomes of it", style="yellow")
            told = True
        if job.clock.monotonic() > deadline_s:
            raise RegisterError(
                f"{uid}: neither back nor gone after {job.config.server.launch_timeout:g} s", hint=RESTART_HINT
            )
        job.progress.busy("recovering")
        job.clock.sleep(POLL_S)
    return states


def stop_model(job: LaunchJob, api: XinferenceApi, uid: str) -> None:
    """Stop the model, a launch under way included, and return when it is gone. Raises `RegisterError` in time."""
    begun_s = job.clock.monotonic()
    gone = cancelled = lingers = False
    while True:
        gone = gone or api.terminate(uid) != "launching"
        left = states_of(api, uid) - ENDED
        waited_s = job.clock.monotonic() - begun_s
        # A launch that has failed is cleared away by the server itself; only if it is not, it is cancelled, too.
        if not gone and not cancelled and (left or waited_s > CLEARING_S):
            api.cancel(uid)
            cancelled = True
            job.clock.sleep(SETTLE_S)
        if gone and not left and uid not in {model.get("id") for model in api.models()} and not api.clearing(uid):
            if not _loading(job, api, uid):
                if lingers:
                    job.clock.sleep(SETTLE_S)
                return
            lingers = True
        if waited_s > STOP_TIMEOUT_S:
            raise RegisterError(
                f"{uid}: not gone {STOP_TIMEOUT_S:g} s after it was told to stop "
                f"(replicas: {', '.join(sorted(left)).lower() or 'still listed'})",
                hint=RESTART_HINT,
            )
        job.progress.busy("stopping")
        job.clock.sleep(POLL_S)
