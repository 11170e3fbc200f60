"""The machine that we run on: what explains a measurement, and how many files a process may open."""

from __future__ import annotations

import getpass
import os
import platform
import resource
from pathlib import Path
from typing import Any

from slo.cgroups import usable_cores

# More is never needed, and some programs walk through all possible descriptors.
MOST_OPEN_FILES = 65_536


def raise_open_files(most: int = MOST_OPEN_FILES) -> int:
    """Raise this process's limit of open files to what it is allowed, `most` at most; the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def user_name() -> str:
    """Who runs this; the number where the system knows no name for it, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def host_facts() -> dict[str, Any]:
    """The machine, as far as it explains a latency."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def cpu_name() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
