"""
What the machine and the server's processes used while a load ran, read straight from /proc.

One reading costs some 30 µs per process, so that it may be taken between two requests; the search for processes
costs more and is repeated only every half minute. Off Linux, or without a server on this machine, those figures
are absent.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from slo.addresses import is_this_machine
from slo.host import proportional_bytes
from slo.stats import nearest_rank

SEARCH_S = 30.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """At `t` seconds of the run. Shares of CPU are of one core; steal, of the whole machine's time."""

    t: float
    rss: int | None
    server_cpu: float | None
    own_cpu: float
    steal: float | None
    load_1m: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


class Monitor:
    """Readings since the one before; `root` is the server's first process, its children are found."""

    def __init__(self, root: int | None, started_s: float) -> None:
        self._root, self._started_s = root, started_s
        self._pids: list[int] = []
        self._searched_s = float("-inf")
        self._last_s = started_s
        self._own_s = time.process_time()
        # What was used before is not of this load, but what is used until the first reading is.
        states = {pid: process_state(pid) for pid in (family(root) if root is not None else [])}
        self._ticks = {pid: state[0] for pid, state in states.items() if state}
        self._machine = machine_ticks()
        self.weight: int | None = None  # as of the last `measure_memory`, which each search begins beside the load

    def read(self, now_s: float) -> Reading:
        """The figures at `now_s`, shares over the time since the last call."""
        if self._root is not None and now_s - self._searched_s > SEARCH_S:
            self._pids, self._searched_s = family(self._root), now_s
            threading.Thread(target=self.measure_memory, name="measure_memory", daemon=True).start()
        span = max(1e-6, now_s - self._last_s)
        states = {pid: state for pid in self._pids if (state := process_state(pid)) is not None}
        used = sum(self._used(pid, ticks, age_s, span) for pid, (ticks, _, age_s) in states.items())
        own_s, machine = time.process_time(), machine_ticks()
        reading = Reading(
            t=round(now_s - self._started_s, 3),
            rss=sum(rss for _, rss, _ in states.values()) if states else None,
            server_cpu=used * _TICK_S / span if states else None,
            own_cpu=(own_s - self._own_s) / span,
            steal=share_of(self._machine, machine),
            load_1m=os.getloadavg()[0],
        )
        self._last_s, self._own_s, self._machine = now_s, own_s, machine
        self._ticks = {pid: ticks for pid, (ticks, _, _) in states.items()}
        return reading

    def _used(self, pid: int, ticks: int, age_s: float, span_s: float) -> float:
        """CPU ticks within the last `span_s`; of a process found just now, its mean share of them."""
        if pid in self._ticks:
            return max(0, ticks - self._ticks[pid])
        return ticks * min(1.0, span_s / max(age_s, 1e-6))

    def measure_memory(self) -> int | None:
        """Memory of the server's processes, shared pages counted once; None if not known. Takes some 100 ms."""
        weights = []
        for pid in tuple(self._pids):
            with suppress(psutil.NoSuchProcess):
                weights.append(proportional_bytes(psutil.Process(pid)))
        known = [weight for weight in weights if weight is not None]
        self.weight = sum(known) if known and len(known) == len(weights) else None
        return self.weight


def server_root(state_dir: Path, endpoint: str) -> int | None:
    """The server's process on this machine: the one that we launched, else who listens on the port; None if unknown."""
    parts = urlsplit(endpoint)
    if not is_this_machine(parts.hostname or ""):
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    listening = _listener(port)
    try:
        launched = json.loads((state_dir / "server.json").read_text(encoding="utf-8"))
        pid = int(launched["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return listening
    # The record may be of another server, on another port.
    ours = listening is None or listening in family(pid)
    return pid if ours and psutil.pid_exists(pid) else listening


def family(pid: int) -> list[int]:
    """`pid` and all its descendants; empty when it has gone.

    From `/proc/PID/task/*/children`, a millisecond even for a large server; psutil, which looks at every process of
    the machine, where the kernel lacks these files.
    """
    if not Path(f"/proc/{pid}").exists():
        return []
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        try:
            return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        except psutil.NoSuchProcess:
            return []
    found, open_ends = [pid], [pid]
    while open_ends:
        children = _children(open_ends.pop())
        found += children
        open_ends += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return children
    for task in tasks:
        try:
            children += map(int, (task / "children").read_bytes().split())
        except OSError:
            continue  # the thread has ended meanwhile
    return children


def process_state(pid: int) -> tuple[int, int, float] | None:
    """CPU ticks used so far, resident bytes and age in seconds; None when it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat[19]) * _TICK_S
    return int(stat[11]) + int(stat[12]), int(stat[21]) * _PAGE, age_s


def machine_ticks() -> tuple[int, int] | None:
    """Stolen and all ticks of the machine so far; None where there is no /proc."""
    try:
        with Path("/proc/stat").open("rb") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return None
    return fields[7], sum(fields)


def resource_summary(readings: list[Reading], proportional: int | None = None) -> dict[str, Any]:
    """Mean shares, largest steal and memory, for a table."""

    def figures(name: str) -> list[float]:
        return [float(v) for reading in readings if (v := getattr(reading, name)) is not None]

    def mean(name: str) -> float | None:
        values = figures(name)
        return round(sum(values) / len(values), 4) if values else None

    rss, steal = sorted(figures("rss")), sorted(figures("steal"))
    return {
        "rss_max": int(rss[-1]) if rss else None, "pss": proportional,
        "server_cpu": mean("server_cpu"), "own_cpu": mean("own_cpu"),
        "steal": mean("steal"), "steal_p95": nearest_rank(steal, 0.95) if steal else None,
    }  # fmt: skip


def share_of(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float | None:
    """Share of stolen ticks between two readings of `machine_ticks`; None where they are not known."""
    if before is None or after is None:
        return None
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def _listener(port: int) -> int | None:
    """Who listens on `port`, as far as we may see."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.AccessDenied, OSError):
        return None
    found = (c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr and c.laddr.port == port)
    return next((pid for pid in found if pid), None)
