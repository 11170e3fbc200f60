"""
Facts about this machine and this Python, gathered without importing anything heavy.

Checks in `doctor.py` work on these values alone, so that they can be tested against machines that we do not have.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import resource
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import psutil
import pynvml

from slo.host import limits

PACKAGES = ("xinference", "torch", "torchvision", "transformers", "sentence-transformers", "openvino", "uvloop")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the checks need to know. `memory_limit_bytes` is what a container may still take, if it is limited.

    `open_files` is the hard limit for one process, None without one.
    """

    system: str
    python: tuple[int, int]
    architecture: str
    cpu_flags: frozenset[str]
    cores: int
    core_limit: float | None
    memory_available_bytes: int
    memory_limit_bytes: int | None
    versions: dict[str, str | None]
    torchvision_wants: str | None
    gpus: tuple[str, ...] = ()
    open_files: int | None = None

    @property
    def memory_bytes(self) -> int:
        """Memory that a new process can have."""
        limit = self.memory_limit_bytes  # 0 is a limit, too
        return self.memory_available_bytes if limit is None else min(self.memory_available_bytes, limit)


def this_machine() -> Machine:
    """The machine that we run on."""
    memory, container = psutil.virtual_memory(), limits()
    return Machine(
        system=platform.system(),
        python=(int(platform.python_version_tuple()[0]), int(platform.python_version_tuple()[1])),
        architecture=platform.machine(),
        cpu_flags=cpu_flags(_lines(Path("/proc/cpuinfo"))),
        cores=len(os.sched_getaffinity(0)),
        core_limit=container.cores,
        memory_available_bytes=memory.available,
        memory_limit_bytes=container.memory_left_bytes,
        versions={name: _version(name) for name in PACKAGES},
        torchvision_wants=_torch_wanted_by_torchvision(),
        gpus=nvidia_gpus(),
        open_files=_most_open_files(),
    )


def cpu_flags(lines: Iterable[str]) -> frozenset[str]:
    """Features of the first processor in `/proc/cpuinfo`: `flags` on x86, `Features` on ARM."""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def nvidia_gpus() -> tuple[str, ...]:
    """Names of the cards that NVIDIA's driver has; empty without a driver or a card."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(pynvml.nvmlDeviceGetName(handle) for handle in handles)
    except pynvml.NVMLError:
        return ()
    finally:
        pynvml.nvmlShutdown()


def free_bytes(path: Path) -> int:
    """Free space where `path` is or will be."""
    return shutil.disk_usage(existing_parent(path)).free


def existing_parent(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def unwritable(path: Path) -> str | None:
    """Why `path` (a folder, existing or not) cannot be written to; None if it can. Creates nothing."""
    parent = existing_parent(path)
    if not parent.is_dir():
        return f"{parent} is a file"
    if parent != path and str(parent).startswith(("/proc", "/sys")):
        return f"nothing can be created in {parent}"
    if not os.access(parent, os.W_OK | os.X_OK):
        return f"no permission to write in {parent}"
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        return f"{parent} is mounted read-only"
    return None


def unwritable_file(path: Path) -> str | None:
    """Why the file `path` cannot be appended to; None if it can."""
    if path.is_dir():
        return f"{path} is a folder"
    if path.exists():
        return None if os.access(path, os.W_OK) else f"no permission to write {path}"
    return unwritable(path.absolute().parent)


def port_taken(host: str, port: int) -> str | None:
    """Why `host:port` cannot be listened on; None if it can."""
    try:
        candidates = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        return f"{host} is not an address of this machine"
    family, kind, protocol, _, address = candidates[0]
    with socket.socket(family, kind, protocol) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            candidate.bind(address)
            candidate.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} is taken"
            return f"{host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}"
    return None


def listener(port: int) -> psutil.Process | None:
    """The process that listens on `port`, as far as we may see it."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        # Addresses are (host, port); an unconnected end is an empty tuple.
        if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,) and connection.pid:
            try:
                return psutil.Process(connection.pid)
            except psutil.NoSuchProcess:
                return None
    return None


def program_of(process: psutil.Process, *, length: int = 80) -> str:
    """What `process` runs, in at most `length` characters."""
    try:
        return " ".join(process.cmdline())[:length] or process.name()
    except psutil.Error:
        return "already gone"


def free_port(host: str) -> int:
    """A port that nobody listens on right now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as candidate:
        candidate.bind((host, 0))
        port: int = candidate.getsockname()[1]
        return port


def _most_open_files() -> int | None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if hard == resource.RLIM_INFINITY else hard


def _version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def _torch_wanted_by_torchvision() -> str | None:
    try:
        wanted = distribution("torchvision").requires or []
    except PackageNotFoundError:
        return None
    for requirement in wanted:
        match = re.match(r"torch\s*\(?([^;)]*)\)?", requirement)
        if match and not requirement.startswith("torchvision"):
            return match.group(1).strip()
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
