"""Whether a process can be copied: a copy has one thread, and none of what a driver keeps in the kernel."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

ACCELERATORS = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/davinci")
SETTLE_S = 1.0  # OpenBLAS ends its threads for a fork; the kernel may list them a moment longer


def unsafe() -> str:
    """Why a copy of this process would not be as good as the original; empty if it would."""
    if sys.platform != "linux":
        return "it needs Linux"
    if threading.active_count() != 1:
        return f"threads run: {[thread.name for thread in threading.enumerate()]}"
    fds = Path("/proc/self/fd")
    devices = {str(target) for fd in fds.iterdir() if (target := _target(fd)).is_relative_to("/dev")}
    if cards := sorted(device for device in devices if device.startswith(ACCELERATORS)):
        return f"a driver is in use, which cannot be copied: {cards}"
    return ""


def _target(fd: Path) -> Path:
    try:
        return fd.readlink()
    except FileNotFoundError:  # the listing's own descriptor
        return Path()


def company() -> list[str]:
    """Names of this process's other threads, those counted in that are not Python's; empty if it is alone."""
    deadline_s = time.monotonic() + SETTLE_S
    while len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - names are enough
        if time.monotonic() > deadline_s:
            return _thread_names()
        time.sleep(0.001)
    return []


def _thread_names() -> list[str]:
    names = []
    for task in Path("/proc/self/task").iterdir():
        if task.name != str(os.getpid()):
            with suppress(OSError):  # it has ended meanwhile
                names.append((task / "comm").read_text(encoding="utf-8").strip())
    return sorted(names)
