"""
The server's look after its keeper: one that was killed, or hangs, is replaced while the server it keeps still lives.

A keeper that ends as it should removes its record (`keeper.json`); one that was killed leaves it. One in the foreground
is its service manager's to restart. A thread of the server's main process looks, so that the two keep each other.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

from slo.clock import Clock, SystemClock
from slo.deploy.keeper_link import living_keeper, pulse, start_keeper, was_killed
from slo.deploy.state import read_state
from slo.errors import StoreError

LOOK_S = 5.0
HALTED_S = 30.0  # without a round, of which it does two a second


class KeeperGuard:
    """Looks after the keeper of `state_dir` for the server `instance`. `look` once every few seconds."""

    def __init__(self, state_dir: Path, instance: str, log: Path, clock: Clock) -> None:
        self._state_dir = state_dir
        self._instance = instance
        self._log = log
        self._clock = clock
        self._seen: tuple[int, int | None] = (0, None)
        self._since_s = self._looked_s = clock.monotonic()

    def look(self) -> bool:
        """Replace the keeper if that is due; True if it was. Raises OSError and `StoreError`."""
        now_s = self._clock.monotonic()
        awake = now_s - self._looked_s < HALTED_S / 2  # else this process did not run itself, and knows nothing
        self._looked_s = now_s
        keeper = living_keeper(self._state_dir)
        if keeper is None:
            state = read_state(self._state_dir) if was_killed(self._state_dir) else None
            if state is None or state.instance != self._instance:
                return False
            start_keeper(self._state_dir, self._log)
            return True
        seen = (keeper.pid, pulse(keeper.pid))
        if seen != self._seen or seen[1] is None or not awake:
            self._seen, self._since_s = seen, now_s
        elif now_s - self._since_s > HALTED_S and not keeper.foreground:
            with suppress(ProcessLookupError):
                os.kill(keeper.pid, signal.SIGKILL)  # its record stays: the next look replaces it
        return False


def guard_for_ever(state_dir: Path, instance: str, log: Path) -> None:
    """Look in a thread; started when nothing is forked from here any more."""
    clock = SystemClock()
    guard = KeeperGuard(state_dir, instance, log, clock)

    def look() -> None:
        while True:
            clock.sleep(LOOK_S)
            with suppress(OSError, StoreError):  # no space, no memory: perhaps at the next look
                guard.look()

    threading.Thread(target=look, daemon=True, name="slo-keeper-guard").start()
