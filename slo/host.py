"""
The machine that we run on: what explains a measurement, and what a process may take of it.

Containers: processor quota and memory by cgroup version 2 or 1, every group above ours included. A pod with four cores
on a machine of 64 still *sees* 64: only these files tell. A container usually sees its own group as the root of the
hierarchy, whatever `/proc/self/cgroup` calls it; then the root's files are ours.

Memory of processes that share pages: what each has *resident* (RSS) counts a page once per process that has it; forked
processes share most of theirs. The kernel's *proportional* size (PSS) divides a page among those who have it, so that
sums are true.
"""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PROC, BIGGEST = Path("/proc/self"), 1 << 60  # version 1 writes "no limit" as a number close to 2**63
# More is never needed, and some programs walk through all possible descriptors.
MOST_OPEN_FILES = 65_536
# Those on which the speed of an encoder depends, and the packages that compute, serve or measure.
FLAGS = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "hypervisor")
PACKAGES = ("xinference-slo", "xinference", "openvino", "nncf", "transformers", "numpy", "uvloop", "httptools")
# A model process comes back by itself in two seconds, the rest of a server takes with it all that runs on it.
FIRST_TO_GO = 500
DONT_NEED = 4  # madvise: forget the pages; of a file that is mapped read-only they are read again when they are needed


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None: not limited. `memory_left_bytes` counts page cache as free, since it is given back."""

    cores: float | None = None
    memory_bytes: int | None = None
    memory_left_bytes: int | None = None


def limits(proc: Path = PROC) -> Limits:
    """The tightest limits of this process's groups. `proc` is a folder with `cgroup` and `mountinfo`."""
    quotas = [quota for group in _groups(proc, "cpu") if (quota := _quota(group)) is not None]
    budgets = [budget for group in _groups(proc, "memory") if (budget := _memory(group)) is not None]
    return Limits(
        cores=min(quotas, default=None),
        memory_bytes=min((limit for limit, _ in budgets), default=None),
        memory_left_bytes=min((left for _, left in budgets), default=None),
    )


def usable_cores(found: Limits | None = None) -> int:
    """Cores for this process to keep busy: those it may run on, within its quota; one at least.

    A quota of 2.5 is two: a third thread would have all of them stopped for part of every tenth of a second.
    """
    visible = len(os.sched_getaffinity(0))
    quota = (limits() if found is None else found).cores
    return visible if quota is None else max(1, min(visible, int(quota)))


def _groups(proc: Path, controller: str) -> Iterator[Path]:
    """Folders of our group and all above it, as far as they can be seen, in both versions."""
    paths = {}
    for line in _lines(proc / "cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for name in controllers.split(","):
            paths[name] = path.lstrip("/")
    for line in _lines(proc / "mountinfo"):
        before, _, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if len(left) < 5 or len(right) < 3:
            continue
        second = right[0] == "cgroup2"
        if not second and not (right[0] == "cgroup" and controller in right[2].split(",")):
            continue
        mount = Path(left[4].encode().decode("unicode_escape"))
        ours = paths.get("" if second else controller)
        if ours is None:
            continue
        inside = _below(ours, left[3].strip("/"))
        group = mount / inside if (mount / inside).is_dir() else mount
        yield group
        while group != mount:
            group = group.parent
            yield group


def _below(path: str, root: str) -> str:
    """`path` as seen in a mount whose root is the group `root`."""
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :].lstrip("/")
    return "" if path.startswith("..") else path


def _quota(group: Path) -> float | None:
    words = _first(group / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota, period = _first(group / "cpu.cfs_quota_us"), _first(group / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _memory(group: Path) -> tuple[int, int] | None:
    """Limit and what is left of it, in bytes."""
    for limit_name, used_name, cache_name in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, used = _first(group / limit_name), _first(group / used_name)
        if limit.isdigit() and used.isdigit() and int(limit) < BIGGEST:
            stat = [line.split() for line in _lines(group / "memory.stat")]
            cache = sum(int(words[1]) for words in stat if words[:1] == [cache_name])
            return int(limit), max(0, int(limit) - int(used) + cache)
    return None


def _first(path: Path) -> str:
    return next(iter(_lines(path)), "").strip()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


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
    flags = set(_cpuinfo("flags").split())
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
        "cpu_flags": [flag for flag in FLAGS if flag in flags],
        "quota_cores": limits().cores,
        "governor": _governor(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _governor() -> str | None:
    """How the kernel chooses the clock rate of the first processor; None where it does not say."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Model name of the processor."""
    return _cpuinfo("model name") or platform.processor() or "unknown"


def _cpuinfo(key: str) -> str:
    """What the kernel says of the first processor; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in found if name.strip() == key), "")


def proportional_bytes(process: psutil.Process) -> int | None:
    """PSS of a process; None where the kernel does not say. Raises psutil.NoSuchProcess.

    The kernel walks all its pages: some 10 ms per gigabyte.
    """
    try:
        weight = getattr(process.memory_full_info(), "pss", None)
    except (psutil.AccessDenied, NotImplementedError):
        return None
    return weight if isinstance(weight, int) else None


def resident_bytes() -> int:
    """Memory of this process now; where the kernel does not say, the most it ever had."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def offer_to_oom_killer(pid: int | None = None) -> None:
    """Have the kernel take this process (or `pid`, one of ours) before the others when memory runs out.

    To raise the score needs no privilege. Where the kernel has no such thing, it chooses as ever.
    """
    with suppress(OSError):
        Path(f"/proc/{'self' if pid is None else pid}/oom_score_adj").write_text(str(FIRST_TO_GO), encoding="ascii")


def give_back(*endings: str) -> None:
    """Hand back what this process holds and does not use: free memory, and pages of mapped files with these endings.

    For files that were read once, such as weights that have been laid out anew. Only mappings that cannot be written
    are touched: no content is lost. Where the system has no such calls nothing happens.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            span, rights, *_ = line.split(maxsplit=2)
            if "w" not in rights and line.endswith(endings):
                start, end = (int(edge, 16) for edge in span.split("-"))
                libc.madvise(start, end - start, DONT_NEED)
