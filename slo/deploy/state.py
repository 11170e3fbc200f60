"""
`<state_dir>/server.json`: which server we started, with which settings, and what was launched on it.

A process is known by pid *and* start time, since pids are used again. Every process of a server additionally carries
the server's instance id in its environment, so children are found even when their parent is gone.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from slo.errors import StoreError
from slo.files import write_atomically
from slo.memory import proportional_bytes

FORMAT = 1
INSTANCE_VARIABLE = "XINFERENCE_SLO_INSTANCE"


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The server of this state directory. `server` and `model` hold the settings that it and the model run with."""

    instance: str
    endpoint: str
    log: str
    server: dict[str, Any]
    pid: int = 0
    created_s: float = 0.0
    metrics_port: int = 0
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Is that very process still running?"""
        return is_alive(self.pid, self.created_s)

    def with_model(self, model: dict[str, Any]) -> ServerState:
        """The same server with other model settings."""
        return replace(self, model=model)


def is_alive(pid: int, created_s: float) -> bool:
    """Does `pid` run, started at `created_s`, and not as a zombie?"""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created_s) < 0.02 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False


def created_s(pid: int) -> float:
    """When `pid` started, as `is_alive` compares it; 0 if it is gone already."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def read_state(state_dir: Path) -> ServerState | None:
    """The recorded server, running or not; None without a record. Raises `StoreError` for an unreadable one."""
    path = state_dir / "server.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise ValueError("another format")
        return ServerState(**data)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}", hint="fix its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path}: not a server record ({error})", hint="remove it once no server of yours runs any more"
        ) from error


def write_state(state_dir: Path, state: ServerState) -> None:
    """Record the server."""
    write_atomically(
        state_dir / "server.json", json.dumps({"format": FORMAT, **asdict(state)}, ensure_ascii=False, indent=2) + "\n"
    )


def forget_state(state_dir: Path) -> None:
    """Remove the record."""
    (state_dir / "server.json").unlink(missing_ok=True)


def processes_of(instance: str) -> list[psutil.Process]:
    """All living processes of a server, orphans included: marked with `instance`, or in the session of one that is.

    Sessions are needed because a model process writes its title over the memory in which the kernel would show us its
    environment. They are safe because a server starts in a session of its own.
    """
    everyone = list(psutil.process_iter())
    marked = [process for process in everyone if _carries(process, instance)]
    sessions = {_session(process) for process in marked} - {-1}
    found = {process.pid: process for process in marked}
    found |= {process.pid: process for process in everyone if _session(process) in sessions}
    return [process for process in found.values() if _runs(process)]


def _carries(process: psutil.Process, instance: str) -> bool:
    try:
        return process.environ().get(INSTANCE_VARIABLE) == instance
    except (psutil.Error, OSError):
        return False  # ended meanwhile, or another user's: not ours in either case


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:
        return -1


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory_of(processes: list[psutil.Process]) -> int:
    """Bytes of memory taken together; pages that several of them share count once in all."""
    total = 0
    for process in processes:
        with suppress(psutil.Error, OSError):
            total += proportional_bytes(process) or 0
    return total
