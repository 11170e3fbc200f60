"""
What becomes of a model that is neither up nor gone: wait for its recovery, or stop it and see it off.

Xinference brings a dead model process back by itself. For as long as that takes (a whole load of the model), the
replica says TERMINATING, as one does that is being stopped; an order to stop it is refused with "is launching", and a
launch with "already in the model list". Only its end tells which it was: READY, or gone.
"""

from __future__ import annotations

from slo.deploy.job import Job
from slo.deploy.registration import POLL_S
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import RegisterError

STOP_TIMEOUT_S = 60.0
ENDED = frozenset({"ERROR", "TERMINATED"})  # rows that the server keeps of replicas which are no more
RESTART_HINT = "the server is stuck: python launch_model_server.py --stop, then launch again"


def states_of(api: XinferenceApi, uid: str) -> set[str]:
    """The states that the model's replicas are in; empty if there is no such model."""
    return {str(replica.get("status")) for replica in api.replicas(uid)}


def settled(job: Job, api: XinferenceApi, uid: str) -> set[str]:
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


def stop_model(job: Job, api: XinferenceApi, uid: str) -> None:
    """Stop the model, a launch under way included, and return when it is gone. Raises `RegisterError` in time."""
    deadline_s = job.clock.monotonic() + STOP_TIMEOUT_S
    stopped = cancelled = False
    while True:
        stopped = stopped or api.terminate(uid)
        if not stopped and not cancelled:
            api.cancel(uid)
            cancelled = True
        left = states_of(api, uid) - ENDED
        if stopped and not left and uid not in {model.get("id") for model in api.models()}:
            return
        if job.clock.monotonic() > deadline_s:
            raise RegisterError(
                f"{uid}: not gone {STOP_TIMEOUT_S:g} s after it was told to stop "
                f"(replicas: {', '.join(sorted(left)).lower() or 'still listed'})",
                hint=RESTART_HINT,
            )
        job.progress.busy("stopping")
        job.clock.sleep(POLL_S)
