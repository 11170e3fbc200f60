"""
Which process a model runs in: told by the engine, checked and ended by the API process.

A number alone says little, since numbers are used again and each container has its own. A process is that very one if
boot, namespace, number and start all agree; then it is on this host and may be ended. A pid file descriptor makes sure
that nothing else takes its number between the check and the signal.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STATE, _USER, _SYSTEM, _START = 0, 11, 12, 19  # fields of /proc/PID/stat, counted behind the program's name


class Leaving(Exception):
    """Raised by an engine that is being stopped: it finishes what it has, and takes no more."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What the kernel says of a process: its state's letter, and seconds of processor time since its start."""

    state: str
    cpu_s: float


@dataclass(frozen=True, slots=True)
class ModelProcess:
    """One process. `start_ticks` count from the boot `boot_id`; `space` is the namespace in which `pid` counts."""

    pid: int
    start_ticks: int
    boot_id: str
    space: str

    @classmethod
    def own(cls) -> ModelProcess | None:
        """This process; None where the kernel does not tell all of it."""
        fields = _stat(os.getpid())
        place = _place()
        return None if fields is None or place is None else cls(os.getpid(), int(fields[_START]), *place)

    @classmethod
    def from_status(cls, status: Mapping[str, Any]) -> ModelProcess | None:
        """What an engine's status says under `process`; None if it says nothing of use."""
        told: Any = status.get("process")
        try:
            return cls(int(told["pid"]), int(told["start_ticks"]), str(told["boot_id"]), str(told["space"]))
        except (TypeError, KeyError, ValueError):
            return None

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def activity(self) -> Activity | None:
        """What it does now; None if it has ended, or is not on this host."""
        fields = self._fields()
        if fields is None:
            return None
        ticks = int(fields[_USER]) + int(fields[_SYSTEM])
        return Activity(fields[_STATE], ticks / os.sysconf("SC_CLK_TCK"))

    def has_ended(self) -> bool:
        """Was it on this host, and is it no more? False where that cannot be known."""
        return _place() == (self.boot_id, self.space) and self._fields() is None

    def end(self) -> bool:
        """Kill it, whatever it does. False if it is not on this host, has ended already, or is not ours to end."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if self._fields() is None:
                return False
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _fields(self) -> list[str] | None:
        if _place() != (self.boot_id, self.space):
            return None
        fields = _stat(self.pid)
        same = fields is not None and int(fields[_START]) == self.start_ticks and fields[_STATE] != "Z"
        return fields if same else None


def _place() -> tuple[str, str] | None:
    """Boot and namespace of this process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip(), str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None


def _stat(pid: int) -> list[str] | None:
    try:  # the name may hold anything, brackets and spaces included
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
