"""The machine that we run on: what explains a measurement, and how many files a process may open."""

from __future__ import annotations

import getpass
import os
import platform
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from slo.cgroups import limits, usable_cores

# More is never needed, and some programs walk through all possible descriptors.
MOST_OPEN_FILES = 65_536
# Those on which the speed of an encoder depends, and the packages that compute, serve or measure.
FLAGS = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "hypervisor")
PACKAGES = ("xinference-slo", "xinference", "openvino", "nncf", "transformers", "numpy", "uvloop", "httptools")


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
