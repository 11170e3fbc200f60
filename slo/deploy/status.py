"""What is up, as far as this state directory knows; and bringing it down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from slo.clock import Clock, SystemClock
from slo.config import Config
from slo.deploy import auth
from slo.deploy.exclusive import exclusive
from slo.deploy.keeper_link import KeeperFacts, end_keeper, living_keeper
from slo.deploy.launch_plan import absolute
from slo.deploy.marks import code_digest, known_server
from slo.deploy.process import stop_instance
from slo.deploy.state import forget_state, memory_of, processes_of, start_of
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import DeployError, RequestError
from slo.http import find_api_key


@dataclass(frozen=True, kw_only=True)
class Status:
    """`state` is up, starting, broken (processes without a working server) or down. Replicas are counted by state."""

    state: str
    endpoint: str
    model: str
    problem: str = ""
    pid: int = 0
    uptime_s: float = 0.0
    log: str = ""
    processes: int = 0
    memory_bytes: int = 0
    metrics_port: int = 0
    replicas: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    keeper: KeeperFacts | None = None
    outdated: bool = False  # the code installed here is not what the server runs

    @property
    def up(self) -> bool:
        return self.state == "up"

    @property
    def stand_in(self) -> bool:
        return bool(self.settings.get("stand_in"))


def status(config: Config, *, clock: Clock | None = None) -> Status:
    """The state of our server and model, or of the one at `server.endpoint`."""
    config, clock = absolute(config), clock or SystemClock()
    if config.server.endpoint:
        return _asked(config, Status(state="down", endpoint=config.endpoint, model=config.model.id))
    own = known_server(config.state_dir)
    if own is None:
        return Status(state="down", endpoint=config.endpoint, model=config.model.id, problem="never launched here")
    processes = processes_of(own.instance)
    known = Status(
        state="broken" if processes else "down", endpoint=own.endpoint, log=own.log,
        model=str(own.model.get("uid", own.model.get("name", config.model.id))), pid=own.pid,
        processes=len(processes), memory_bytes=memory_of(processes), metrics_port=own.metrics_port, settings=own.model,
        keeper=living_keeper(config.state_dir), outdated=own.code != code_digest(),
    )  # fmt: skip
    # Read anew: the clock may have been set since it was recorded.
    start = start_of(own.pid)
    if start is None or not own.alive:
        return replace(known, problem=f"the server process {own.pid} is gone")
    return _asked(config, replace(known, uptime_s=clock.wall() - start.created_s))


def _asked(config: Config, known: Status) -> Status:
    """`known`, completed by what the server says."""
    account = auth.own_account(config.state_dir) if known.pid and _has_admin(config) else auth.given_account()
    key = find_api_key(config.client.api_key_file or config.state_dir / auth.KEY_FILE)
    api = XinferenceApi(known.endpoint, account=account, key=key, timeout_s=10.0)
    starting = "down" if not known.pid else "starting" if known.uptime_s < config.server.start_timeout else "broken"
    try:
        if not api.workers():
            return replace(known, state=starting, problem="the server does not answer")
        states = [str(replica.get("status", "?")).lower() for replica in api.replicas(known.model)]
    except (RequestError, DeployError) as error:
        return replace(known, state="broken", problem=error.message)
    finally:
        api.close()
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    if not states:
        return replace(known, state="starting" if known.pid else "down", problem=f"{known.model} is not launched")
    if set(states) != {"ready"}:
        return replace(known, state="broken" if "error" in states else "starting", replicas=counts,
                     problem="not every replica is ready")  # fmt: skip
    return replace(known, state="up", replicas=counts)


def _has_admin(config: Config) -> bool:
    return (config.state_dir / auth.ADMIN_FILE).exists()


def stop(config: Config, *, say: Callable[[str], None], clock: Clock | None = None) -> int:
    """Stop what a launch with this state directory started, and nothing else; the number of processes stopped."""
    config, clock = absolute(config), clock or SystemClock()
    if not config.state_dir.is_dir():
        return 0
    start_s = time.monotonic()
    own = known_server(config.state_dir)
    count = len(processes_of(own.instance)) if own else 0
    # First the one who would start it again, and any start of its that is under way; in the foreground it stops the
    # server itself.
    kept = end_keeper(config.state_dir, clock)
    wait_s = config.server.stop_timeout  # for another stop; a launch is broken off
    with exclusive(config.state_dir, wait_s=wait_s, clock=clock, on_wait=say, breaks_off=True) as broken_off:
        own = known_server(config.state_dir)
        if own is not None:
            count = max(count, stop_instance(own, timeout_s=config.server.stop_timeout, clock=clock))
            forget_state(config.state_dir)
        if kept and not count:
            say("the server was down; its keeper, which would have started it again, has ended")
            return 1
        if broken_off and not count:
            return 1
        if count:
            say(f"{count} processes stopped in {time.monotonic() - start_s:.1f} s")
    return count
