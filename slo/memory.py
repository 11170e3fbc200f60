"""
Memory of processes that share pages with each other.

What each has *resident* (RSS) counts a page once per process that has it; forked processes share most of theirs. The
kernel's *proportional* size (PSS) divides a page among those who have it, so that sums are true.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

# A model process comes back by itself in two seconds, the rest of a server takes with it all that runs on it.
FIRST_TO_GO = 500


def proportional_bytes(process: psutil.Process) -> int | None:
    """PSS of a process; None where the kernel does not say. Raises psutil.NoSuchProcess.

    The kernel walks all its pages: some 10 ms per gigabyte.
    """
    try:
        weight = getattr(process.memory_full_info(), "pss", None)
    except (psutil.AccessDenied, NotImplementedError):
        return None
    return weight if isinstance(weight, int) else None


def offer_to_oom_killer(pid: int | None = None) -> None:
    """Have the kernel take this process (or `pid`, one of ours) before the others when memory runs out.

    To raise the score needs no privilege. Where the kernel has no such thing, it chooses as ever.
    """
    with suppress(OSError):
        Path(f"/proc/{'self' if pid is None else pid}/oom_score_adj").write_text(str(FIRST_TO_GO), encoding="ascii")
