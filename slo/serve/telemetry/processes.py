"""
Processor time and memory of the API process and of the model processes.

A model process is asked from here when it runs on this machine; on another worker its engine's own figures are used.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from slo.serve.door.lane import Lane, ServedReplica


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One process: its name here, seconds of processor time since its start, resident bytes."""

    name: str
    cpu_s: float
    memory_bytes: int


def own_process() -> ProcessUse:
    """The API process."""
    return _measured("api", psutil.Process(os.getpid()))


def model_processes(lanes: Sequence[Lane]) -> list[ProcessUse]:
    """One per replica, as far as known."""
    uses = (_replica(replica) for lane in lanes for replica in lane.replicas)
    return [use for use in uses if use is not None]


def _replica(replica: ServedReplica) -> ProcessUse | None:
    name, status = replica.identity[0], replica.status
    pid, host = status.get("pid"), replica.identity[1].rpartition(":")[0]
    if isinstance(pid, int) and host in ("127.0.0.1", "localhost", "[::1]", "::1"):
        try:
            return _measured(name, psutil.Process(pid))
        except psutil.Error:
            return None
    if "rss_bytes" in status:
        return ProcessUse(name, float(status.get("cpu_s", 0.0)), int(status["rss_bytes"]))
    return None


def _measured(name: str, process: psutil.Process) -> ProcessUse:
    with process.oneshot():
        times = process.cpu_times()
        return ProcessUse(name, times.user + times.system, process.memory_info().rss)
