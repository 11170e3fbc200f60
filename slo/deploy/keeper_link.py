"""How everybody else meets the keeper of a state directory: is there one, what does it say, start one, end it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from slo.clock import Clock
from slo.deploy.process import spawn
from slo.deploy.state import INSTANCE_VARIABLE
from slo.deploy.subreaper import adopting, set_adopting
from slo.files import locked, write_atomically
from slo.notify import VARIABLES

LOCK, RECORD = "keeper.lock", "keeper.json"
END_S = 45.0
CREDENTIALS = ("SLO_API_KEY", "SLO_ADMIN_USER", "SLO_ADMIN_PASSWORD")


@dataclass(frozen=True, kw_only=True)
class KeeperFacts:
    """A living keeper. `restarts` counts deaths so far, `failures` those in a row; `next_s` is wall time, or None."""

    pid: int
    foreground: bool = False
    unit: str = ""
    why: str = ""
    restarts: int = 0
    failures: int = 0
    next_s: float | None = None


def living_keeper(state_dir: Path) -> KeeperFacts | None:
    """The keeper of this state directory, if one lives: it holds a lock for as long."""
    try:
        lock = os.open(state_dir / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        if locked(lock, shared=True):
            return None
        pid = _number(os.read(lock, 32))
    finally:
        os.close(lock)
    if not pid:
        return None
    try:
        facts = json.loads((state_dir / RECORD).read_text(encoding="utf-8"))
        return KeeperFacts(**facts) if facts.get("pid") == pid else KeeperFacts(pid=pid)
    except (OSError, ValueError, TypeError, AttributeError):
        return KeeperFacts(pid=pid)


def _number(text: bytes) -> int:
    return int(text) if text.strip().isdigit() else 0


@contextmanager
def alone(state_dir: Path, *, takes_over: bool, clock: Clock) -> Iterator[bool]:
    """Be the keeper inside: False if another is. With `takes_over`, the other one is told to end first."""
    lock = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        first = _take(lock, clock)
        if not first and takes_over:
            end_keeper(state_dir, clock)
            first = _take(lock, clock)
        if first:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield first
    finally:
        os.close(lock)


def _take(lock: int, clock: Clock) -> bool:
    for _ in range(5):  # whoever only looks, holds it for a moment
        if locked(lock):
            return True
        clock.sleep(0.02)
    return False


def record(state_dir: Path, facts: Mapping[str, Any]) -> None:
    """What the keeper has to say, for `--status`. Raises `StoreError`."""
    write_atomically(state_dir / RECORD, json.dumps(dict(facts), ensure_ascii=False) + "\n")


def forget(state_dir: Path) -> None:
    """There is no keeper any more."""
    (state_dir / RECORD).unlink(missing_ok=True)


def end_keeper(state_dir: Path, clock: Clock) -> bool:
    """End the keeper, by force if it must be, and return when it has ended; False if there was none."""
    facts = living_keeper(state_dir)
    if facts is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(facts.pid, signal.SIGTERM)
        os.kill(facts.pid, signal.SIGCONT)  # one that was halted heeds nothing before
    deadline_s = clock.monotonic() + END_S
    while (left := living_keeper(state_dir)) is not None and left.pid == facts.pid:
        if clock.monotonic() > deadline_s:
            with suppress(ProcessLookupError):
                os.kill(facts.pid, signal.SIGKILL)  # left alone it would bring back what is being stopped
        clock.sleep(0.05)
    return True


def start_keeper(state_dir: Path, log: Path) -> None:
    """A keeper for the server of `state_dir`, unless there is one. Its own lock settles who comes first.

    It is nobody's child: Xinference's main process, which may call this, adopts orphans, and when it ends it kills
    all below it.
    """
    if living_keeper(state_dir) is None:
        command = ["/bin/sh", "-c", '"$@" &', "sh", *keeper_command(state_dir)]
        with adopting(False):
            shell = spawn(command, environment=quiet_environment(os.environ), log=log)
            with suppress(ChildProcessError):  # collected by somebody else
                os.waitpid(shell, 0)


def was_killed(state_dir: Path) -> bool:
    """Was there a keeper, in the background, that did not end as it should? Such a one leaves its record."""
    try:
        facts = json.loads((state_dir / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and not facts.get("foreground") and living_keeper(state_dir) is None


def keeper_command(state_dir: Path, *, foreground: bool = False) -> list[str]:
    """The command line of a keeper."""
    return [sys.executable, "-m", "slo.deploy.keeper", str(state_dir), *(["--foreground"] if foreground else [])]


def quiet_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without a service manager's channel and a server's mark, meant for one process, and without settings.

    A server comes back with the settings of its record, and the credentials of its launch. Secrets of alerts are among
    the other variables that begin with `SLO_`.
    """
    foreign = (*VARIABLES, INSTANCE_VARIABLE)
    return {k: v for k, v in environ.items() if k not in foreign and (k in CREDENTIALS or not k.startswith("SLO_"))}


def adopt_orphans() -> None:
    """Become the parent of servers whose launcher has ended: it is known how they end, and none stays a zombie."""
    with suppress(OSError):  # without it, less is known
        set_adopting(True)


def unit_of(pid: int, *, environ: Mapping[str, str], proc: Path = Path("/proc")) -> str:
    """The systemd unit that `pid` runs in, as `systemctl` wants it; empty where no service manager has started it."""
    if "INVOCATION_ID" not in environ:
        return ""
    try:
        groups = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in groups.splitlines():
        above, _, name = line.rpartition("/")
        if name.endswith(".service"):
            return f"--user {name}" if "/user@" in above else name
    return ""


def pulse(pid: int) -> int | None:
    """A number that grows while a process does its rounds, sleeping between them; None where nobody can say."""
    try:
        return int(psutil.Process(pid).num_ctx_switches().voluntary)
    except (psutil.Error, NotImplementedError):
        return None


def hurry_keeper(facts: KeeperFacts) -> None:
    """Somebody waits for the server: its keeper is not to pause before it starts it."""
    with suppress(ProcessLookupError):
        os.kill(facts.pid, signal.SIGUSR1)


def stop_command(state_dir: Path) -> str:
    """What a person types to stop this server, by how it was started."""
    facts = living_keeper(state_dir)
    return f"systemctl stop {facts.unit}" if facts and facts.unit else "slo stop"


def restart_command(state_dir: Path) -> str:
    """What a person types to have the server started anew, with new settings and new code."""
    facts = living_keeper(state_dir)
    return f"systemctl restart {facts.unit}" if facts and facts.unit else "slo launch --restart"
