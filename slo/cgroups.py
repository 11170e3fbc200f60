"""
What a container leaves us: processor quota and memory, by cgroup version 2 or 1, every group above ours included.

A pod with four cores on a machine of 64 still *sees* 64: only these files tell. A container usually sees its own group
as the root of the hierarchy, whatever `/proc/self/cgroup` calls it; then the root's files are ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, BIGGEST = Path("/proc/self"), 1 << 60  # version 1 writes "no limit" as a number close to 2**63


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
