"""
A process that has imported everything and only forks: the server's other processes start in 0.1 s instead of 7 s.

    main ──────────┬── fork server          main asks its fork server for the cluster process;
                   └── cluster ─┬── fork server   that one forks a server of its own first,
                                └── model         and asks it for every model process

`open_server` forks it while there is one thread and no event loop yet, so no lock can be held by a thread that the
copy lacks. Whoever asks (`slo.deploy.forkclient`) holds one end of a socket pair that nobody else can reach. What is
forked becomes a *direct child of the process that asked*: it is forked by a go-between that ends at once, and the
asking process adopts orphans meanwhile. So exit codes, signals, `kill -9` and the death signal of xoscar need no help.
Pages that nobody writes to are shared by all of them.

Not every process can be copied (`obstacles`): a copy has one thread, and none of what a driver keeps in the kernel.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import logging
import os
import random
import runpy
import signal
import socket
import struct
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slo.deploy.forkclient import ForkClient, install
from slo.host import offer_to_oom_killer
from slo.tied import PR_SET_NAME, PR_SET_PDEATHSIG, prctl

ACCELERATORS = ("/dev/nvidia", "/dev/kfd", "/dev/dri", "/dev/davinci")
SETTLE_S = 1.0  # OpenBLAS ends its threads for a fork; the kernel may list them a moment longer
HEADER = struct.Struct("!Q")
FDS = 4  # stdin, stdout, stderr, and the pipe that says "go"

logger = logging.getLogger("xinference.slo")  # Xinference's console shows only loggers below its own name


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


@dataclass(frozen=True)
class Task:
    """What a forked process is to be: an argument list of Python, and whether it asks for processes itself."""

    argv: list[str]
    nested: bool


def open_server() -> ForkClient | Task | None:
    """Fork a fork server. Returns three times over: in the caller, and in each process that is forked later.

    The caller gets a client, or None where forking would be unsafe. A forked process gets its `Task`, to be given to
    `run` at once and from the outermost function, so that the interpreter ends as it always does.
    """
    if reason := unsafe():
        logger.warning("xinference-slo: no fork server, %s", reason)
        return None
    ours, theirs = socket.socketpair()
    gc.collect()
    gc.freeze()  # else the first collection of every child would copy every page
    baseline, parent = dict(os.environ), os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        return serve(theirs, parent)
    theirs.close()
    gc.unfreeze()
    client = ForkClient(ours, pid, baseline)
    # Looked at after the fork, since OpenBLAS's threads are there before it and end for it; no other library's do.
    if others := company():
        logger.warning("xinference-slo: no fork server, a library runs threads of its own: %s", ", ".join(others))
        client.close()
        return None
    atexit.register(client.close)
    return client


def run(task: Task) -> None:
    """Be what the task says, as `python …` would. Ends by SystemExit or whatever the program ends with."""
    if task.nested:
        opened = open_server()
        if isinstance(opened, Task):
            return run(opened)
        if opened is not None:
            install(opened)
    gc.enable()
    # The program is among the modules imported before. That is the point.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    arguments = task.argv[1:]
    if arguments[0] == "-u":
        arguments = arguments[1:]
    sys.orig_argv = task.argv
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).parent)
        runpy.run_path(arguments[0], run_name="__main__")
    return None


def serve(control: socket.socket, parent: int) -> Task:
    """Fork on request, for as long as the process that asks lives. Returns in a forked process only."""
    gc.disable()
    prctl(PR_SET_NAME, ctypes.c_char_p(b"slo-forkserver"))
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for those who work
    if os.getppid() != parent:
        os._exit(0)
    while True:
        header, fds, _, _ = socket.recv_fds(control, HEADER.size, FDS)
        if len(header) < HEADER.size or len(fds) != FDS:
            os._exit(0)  # the asking process has closed its end
        request = json.loads(_receive(control, HEADER.unpack(header)[0]))
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            if (child := os.fork()) != 0:
                os.write(writer, HEADER.pack(child))
                os._exit(0)
            for fd in (reader, writer, control.detach()):
                os.close(fd)
            return _become(request, fds, parent)
        os.close(writer)
        for fd in fds:
            os.close(fd)
        answer = os.read(reader, HEADER.size)
        os.close(reader)
        os.waitpid(between, 0)  # from here on the child belongs to the process that asked
        try:
            control.sendall(answer or HEADER.pack(0))
        except OSError:  # it gave up waiting; the child ends by itself, as nobody says "go"
            os._exit(0)


def _receive(control: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = control.recv(length - len(data))
        if not piece:
            os._exit(0)
        data += piece
    return data


def _become(request: dict[str, Any], fds: list[int], parent: int) -> Task:
    """Turn a fresh copy of the fork server into the process that was asked for, up to its program."""
    *standard, go = fds
    if os.read(go, 1) != b"g" or os.getppid() != parent:
        os._exit(0)  # nobody waits for this process any more
    os.close(go)
    for target, fd in enumerate(standard):
        os.dup2(fd, target)
    for fd in standard:
        os.close(fd)
    prctl(PR_SET_NAME, ctypes.c_char_p(b"python"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if request["cwd"] is not None:
        os.chdir(request["cwd"])
    for name in set(os.environ) - set(request["env"]):
        del os.environ[name]
    # Only what differs: setproctitle looks for the title's place where the kernel has put the first variable.
    os.environ.update({name: value for name, value in request["env"].items() if os.environ.get(name) != value})
    if not request["nested"]:  # a model process
        offer_to_oom_killer()
    _reseed()
    if request["preexec"]:
        module, name = request["preexec"].split(":")
        getattr(importlib.import_module(module), name)()
    return Task(argv=request["argv"], nested=bool(request["nested"]))


def _reseed() -> None:
    """Give the process random numbers of its own, wherever they were seeded by an import."""
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "xoscar._utils" in sys.modules:
        with contextlib.suppress(AttributeError):  # a later xoscar may do without
            sys.modules["xoscar._utils"].reset_id_random_seed()
