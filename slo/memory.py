"""
Memory of processes that share pages with each other.

What each has *resident* (RSS) counts a page once per process that has it; forked processes share most of theirs. The
kernel's *proportional* size (PSS) divides a page among those who have it, so that sums are true.
"""

from __future__ import annotations

import psutil


def proportional_bytes(process: psutil.Process) -> int | None:
    """PSS of a process; None where the kernel does not say. Raises psutil.NoSuchProcess.

    The kernel walks all its pages: some 10 ms per gigabyte.
    """
    try:
        weight = getattr(process.memory_full_info(), "pss", None)
    except (psutil.AccessDenied, NotImplementedError):
        return None
    return weight if isinstance(weight, int) else None
