"""The watcher's own machine, where the server runs too in the usual case: share of CPU time taken by neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Cumulative ticks of all processors."""

    total: int
    idle: int
    steal: int

    def shares_since(self, earlier: CpuTime) -> tuple[float, float] | None:
        """Busy and stolen share of the time since `earlier`, 0 … 1; None when no time has passed."""
        total = self.total - earlier.total
        if total <= 0:
            return None
        steal = max(0, self.steal - earlier.steal)
        return max(0.0, 1 - (self.idle - earlier.idle + steal) / total), steal / total


def cpu_time(path: Path = STAT) -> CpuTime | None:
    """The counters of this instant; None on a system without `/proc/stat`."""
    try:
        fields = path.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    # cpu user nice system idle iowait irq softirq steal guest guest_nice; guest time is within user already.
    ticks = [int(value) for value in fields[1:9]]
    if fields[:1] != ["cpu"] or len(ticks) < 8:
        return None
    return CpuTime(total=sum(ticks), idle=ticks[3] + ticks[4], steal=ticks[7])
