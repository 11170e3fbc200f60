"""
A launch and the keeper of the same server: who of the two starts it.

A server that its keeper starts stays where it was started: in a service's unit, or beside the shell that launched it.
So a launch leaves a dead or hung server to the keeper, hurries it, and takes over only where that one fails or hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from slo.clock import Clock, SystemClock
from slo.config import Config
from slo.deploy.exclusive import exclusive
from slo.deploy.keeper_link import KeeperFacts, end_keeper, hurry_keeper, living_keeper, pulse
from slo.deploy.launch_plan import absolute
from slo.deploy.marks import known_server
from slo.deploy.process import stop_instance
from slo.deploy.restarts import HANG_S, PATIENCE_S, answers
from slo.deploy.state import ServerState, read_state, write_state
from slo.errors import StartError

POLL_S = 0.5
HALTED_S = 15.0  # a keeper that does its rounds twice a second, and did none for so long, hangs itself


def end_for_restart(config: Config, *, clock: Clock | None = None) -> bool:
    """End the server for its keeper to start it anew; False, and nothing done, where nobody keeps it."""
    config, clock = absolute(config), clock or SystemClock()
    if living_keeper(config.state_dir) is None:
        return False
    with exclusive(config.state_dir, wait_s=config.server.start_timeout, clock=clock, on_wait=lambda _: None):
        own = known_server(config.state_dir)
        if own is None:
            return False
        own = _with_settings(own, config)
        write_state(config.state_dir, own)
        stop_instance(own, timeout_s=config.server.stop_timeout, clock=clock)
        # So that its keeper does not take it for a death. A launch writes a record without it.
        write_state(config.state_dir, replace(own, launch={**own.launch, "ordered": True}))
    return True


def await_keeper(config: Config, *, say: Callable[[str], None], clock: Clock | None = None) -> None:
    """Return when the server is up, or when there is no keeper that would start it."""
    config, clock = absolute(config), clock or SystemClock()
    begun_s = clock.monotonic()
    keepers = _Rounds(clock)
    failures: int | None = None
    while clock.monotonic() - begun_s < config.server.start_timeout + config.server.launch_timeout:
        own, keeper = read_state(config.state_dir), living_keeper(config.state_dir)
        if keeper is None or own is None:
            return
        if own.alive and keeper.next_s is None:
            # One that is silent is ended by its keeper, if that is needed. A launch would hold the lock meanwhile.
            if clock.monotonic() - begun_s > 2 * HANG_S or answers(own.endpoint, "/status", timeout_s=PATIENCE_S):
                return
        elif failures is None:
            say(f"its keeper (pid {keeper.pid}) starts the server: waiting for it")
            failures = keeper.failures
            with suppress(StartError), exclusive(config.state_dir, wait_s=0.0, clock=clock, on_wait=lambda _: None):
                if read_state(config.state_dir) == own:
                    write_state(config.state_dir, _with_settings(own, config))
        elif keeper.failures > failures + 1:
            say(f"its keeper does not succeed ({keeper.why}): launching from here")
            return
        if keeper.next_s is not None and keeper.next_s > clock.wall():
            hurry_keeper(keeper)  # again and again: it may note the death, or another one, only now
        if keepers.stand_still(keeper):
            say(f"its keeper (pid {keeper.pid}) hangs: it is ended, launching from here")
            end_keeper(config.state_dir, clock)
            return
        clock.sleep(POLL_S)


class _Rounds:
    """Does a keeper do its rounds?"""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: tuple[int, int | None] = (0, None)
        self._since_s = clock.monotonic()

    def stand_still(self, keeper: KeeperFacts) -> bool:
        """True when it has done none for `HALTED_S`."""
        seen = (keeper.pid, pulse(keeper.pid))
        if seen != self._seen or seen[1] is None:
            self._seen, self._since_s = seen, self._clock.monotonic()
        return self._clock.monotonic() - self._since_s > HALTED_S


def _with_settings(own: ServerState, config: Config) -> ServerState:
    """The record, to be launched again with the settings of now."""
    launch = {"stock": bool(own.server.get("stock")), **own.launch, "config": config.model_dump(mode="json")}
    return replace(own, launch=launch)
