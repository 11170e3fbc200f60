"""
`<state_dir>/server.json`: which server we started, with which settings, and what was launched on it.

A process is known by pid *and* start, since pids are used again. The start is counted from the boot of the machine: as
a time of day it moves whenever the clock is set, and a healthy server would be taken for another process. Every process
of a server additionally carries the server's instance id in its environment, so children are found even when their
parent is gone.
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
from slo.host import proportional_bytes

FORMAT = 1
INSTANCE_VARIABLE = "XINFERENCE_SLO_INSTANCE"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START = 19  # field of /proc/PID/stat, counted behind the program's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When a process started: by the wall clock, and in ticks since the boot `boot_id`, empty where nobody counts."""

    created_s: float
    ticks: int = 0
    boot_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """The server of this state directory. `server` and `model` hold the settings that it and the model run with.

    `launch` holds what it takes to launch both again as they were: the whole configuration, and how it was used.
    `code` is the digest of our code that it runs. Records of earlier versions lack `start_ticks`, `boot_id`, `launch`
    and `code`.
    """

    instance: str
    endpoint: str
    log: str
    server: dict[str, Any]
    pid: int = 0
    created_s: float = 0.0
    start_ticks: int = 0
    boot_id: str = ""
    metrics_port: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    launch: dict[str, Any] = field(default_factory=dict)
    code: str = ""

    @property
    def alive(self) -> bool:
        """Is that very process still running?"""
        start = start_of(self.pid)
        if start is None:
            return False
        if self.boot_id and start.boot_id:
            return (self.boot_id, self.start_ticks) == (start.boot_id, start.ticks)
        # The mark settles what the clock cannot: it may have been set since the record was written.
        return abs(start.created_s - self.created_s) < 0.02 or _leads(self.pid, self.instance)

    def started(self, pid: int) -> ServerState:
        """The same server as process `pid`, which has just been started."""
        start = start_of(pid) or Start(created_s=0.0)
        return replace(self, pid=pid, created_s=start.created_s, start_ticks=start.ticks, boot_id=start.boot_id)

    def with_model(self, model: dict[str, Any]) -> ServerState:
        """The same server with other model settings."""
        return replace(self, model=model)


def start_of(pid: int) -> Start | None:
    """When `pid` started; None if it is gone, or a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        created_s = process.create_time()
    except (psutil.NoSuchProcess, ValueError):
        return None
    try:
        # The name may hold anything, brackets and spaces included.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        boot_id = _BOOT_ID.read_text(encoding="ascii").strip()
        return Start(created_s=created_s, ticks=int(fields[_START]), boot_id=boot_id)
    except (OSError, ValueError, IndexError):
        return Start(created_s=created_s)


def halted(pid: int) -> bool:
    """Was it stopped by a signal (SIGSTOP) and not continued?"""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _leads(pid: int, instance: str) -> bool:
    """Is `pid` the process of `instance` from which its session, and with it all others, descend?"""
    try:
        return os.getsid(pid) == pid and any(process.pid == pid for process in processes_of(instance))
    except OSError:
        return False


def read_state(state_dir: Path) -> ServerState | None:
    """The recorded server, running or not; None without a record. Raises `StoreError` for an unreadable one."""
    path = state_dir / "server.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise ValueError("another format")
        return ServerState(**data)
    except (FileNotFoundError, NotADirectoryError):  # whoever needs the folder says that it is none
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
