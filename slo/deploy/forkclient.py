"""
Asking a fork server for a process: a `subprocess.Popen` that is as good as the real one, and falls back to it.

Only what Xinference and xoscar start by a known command line is forked, and only if the environment asked for differs
in nothing that libraries have read already. Everything else is started as ever.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from slo.deploy.subreaper import adopting
from slo.host import offer_to_oom_killer

HEADER = struct.Struct("!Q")
READY = b"r"
SPARE = ("-m", "slo.deploy.forkspare")
SPARE_PAUSE_S = 60.0  # between two attempts where one fails
PREPARE_S = 120.0  # a replacement imports everything anew, on a machine that may be busy
TIMEOUT_S = 20.0  # a fork takes 0.05 s
SUB_POOL = ["-m", "xoscar.backends.indigen", "start_sub_pool"]
# Read when they are needed, not when something is imported. CUDA reads its variable when it is first used, which no
# import does. Any other difference (OMP_NUM_THREADS and its like) needs a fresh interpreter.
HARMLESS = frozenset(
    {
        "XINFERENCE_WORKER_HOST_SOCKET", "XINFERENCE_WORKER_HOST_PID", "XINFERENCE_API_HOST", "XINFERENCE_MODEL_UID",
        "HF_HUB_DOWNLOAD_WORKERS", "CUDA_VISIBLE_DEVICES",
    }
)  # fmt: skip
USUAL: dict[str, list[object]] = {
    "pass_fds": [()], "shell": [False], "gid": [None], "gids": [None], "uid": [None], "umask": [-1],
    "start_new_session": [False], "process_group": [-1, None],
}  # fmt: skip

logger = logging.getLogger("xinference.slo")  # Xinference's console shows only loggers below its own name


class NoForkServer(Exception):
    """It cannot do this, or is gone."""


class ForkClient:
    """Our end of the socket pair. `baseline` is the environment in which the fork server imported everything.

    `spare` are Python's arguments for another one, should it die; the number of its end of a socket pair is added.
    """

    def __init__(
        self, control: socket.socket, pid: int, baseline: Mapping[str, str], spare: Sequence[str] = SPARE
    ) -> None:
        self._spare = spare
        self.pid = pid
        self.baseline = baseline
        self._control = control
        self._control.settimeout(TIMEOUT_S)
        self._lock = threading.Lock()
        self._open = True
        self._closed = False

    def differences(self, environment: Mapping[str, str]) -> list[str]:
        """Variables that would have had to be known earlier."""
        names = {*self.baseline, *environment} - HARMLESS
        return sorted(name for name in names if self.baseline.get(name) != environment.get(name))

    def fork(self, request: Mapping[str, Any], standard: list[int]) -> int:
        """Pid of a new child of this process. Raises `NoForkServer`; then there is no such child."""
        data = json.dumps(request).encode()
        waiting, go = os.pipe()
        with self._lock, contextlib.ExitStack() as cleared:
            for fd in (waiting, go):
                cleared.callback(os.close, fd)
            if not self._open:
                raise NoForkServer("it has ended")
            try:
                with adopting(True):
                    socket.send_fds(self._control, [HEADER.pack(len(data))], [*standard, waiting])
                    self._control.sendall(data)
                    answer = self._control.recv(HEADER.size, socket.MSG_WAITALL)
            except OSError as error:
                self._end()
                raise NoForkServer(str(error)) from error
            pid = int(HEADER.unpack(answer)[0]) if len(answer) == HEADER.size else 0
            if not pid:
                self._end()
                raise NoForkServer("it has ended or found no memory")
            os.write(go, b"g")
            return pid

    def close(self) -> None:
        """End the fork server; what it has forked goes on."""
        with self._lock:
            self._closed = True
            self._end()

    def watch(self) -> None:
        """Replace the fork server when it dies, in a thread of its own; called when nothing is forked from here."""
        threading.Thread(target=self._replace_for_ever, daemon=True, name="slo-forkserver-watch").start()

    def _replace_for_ever(self) -> None:
        # The thread that starts a process is the one whose end the kernel would announce to it: this one has none.
        while not self._closed:
            poll = select.poll()
            try:
                poll.register(self._control, select.POLLRDHUP)
                poll.poll()
            except (OSError, ValueError):
                pass  # closed by a request that found it dead
            with self._lock:
                self._end()
            if not self._closed:
                logger.warning("xinference-slo: the fork server has died; another one takes its place")
                if not self._start_spare():
                    time.sleep(SPARE_PAUSE_S)

    def _start_spare(self) -> bool:
        """Start another fork server and wait until it can fork; requests get fresh interpreters meanwhile."""
        ours, theirs = socket.socketpair()
        with theirs:
            spare = subprocess.Popen(
                [sys.executable, *self._spare, str(theirs.fileno())], env=dict(self.baseline), stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )  # fmt: skip
        ours.settimeout(PREPARE_S)
        try:
            ready = ours.recv(1)
        except OSError:
            ready = b""
        with self._lock:
            if ready == READY and not self._closed:
                ours.settimeout(TIMEOUT_S)
                self._control, self.pid, self._open = ours, spare.pid, True
                spare.returncode = 0  # its end is seen at the socket, and taken by `_end`
                return True
        ours.close()
        spare.kill()
        spare.wait()
        return False

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        self._control.close()
        with contextlib.suppress(ChildProcessError):  # reaped by somebody else: the number may be another's by now
            if os.waitpid(self.pid, os.WNOHANG) == (0, 0):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


def popen_of(client: ForkClient) -> type[subprocess.Popen[Any]]:
    """`subprocess.Popen` with `client` in place of fork and exec where that is the same thing, only sooner."""
    signature = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]

    class ForkedPopen(subprocess.Popen[Any]):
        def _execute_child(self, *arguments: Any) -> None:
            call = signature.bind(self, *arguments).arguments
            argv = [os.fspath(part) for part in call["args"]] if isinstance(call["args"], (list, tuple)) else []
            if _known(argv, call):
                environment = dict(os.environ if call["env"] is None else call["env"])
                changed = client.differences(environment)
                request = {
                    "argv": argv, "cwd": call["cwd"], "env": environment, "preexec": _name_of(call["preexec_fn"]),
                    "nested": argv[1:4] != SUB_POOL,
                }  # fmt: skip
                pipes = (call["p2cread"], call["c2pwrite"], call["errwrite"])
                standard = [fd if fd != -1 else number for number, fd in enumerate(pipes)]
                try:
                    if changed:
                        raise NoForkServer(f"these variables differ: {', '.join(changed)}")
                    self.pid = client.fork(request, standard)
                except NoForkServer as reason:
                    logger.warning("xinference-slo: a fresh interpreter instead of a forked one: %s", reason)
                else:
                    self._child_created = True
                    pairs = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
                    self._close_pipe_fds(*(call[name] for name in pairs))  # type: ignore[attr-defined]
                    return
            super()._execute_child(*arguments)  # type: ignore[misc]
            if argv[1:4] == SUB_POOL:
                offer_to_oom_killer(self.pid)

    return ForkedPopen


def _known(argv: list[str], call: Mapping[str, Any]) -> bool:
    """One of the two command lines that we know, started without anything unusual."""
    if not argv or argv[0] != sys.executable or call["executable"] not in (None, argv[0]):
        return False
    if not (argv[1:4] == SUB_POOL or (argv[1:2] == ["-u"] and argv[2:] and argv[2].endswith("/start_local.py"))):
        return False
    if any(call[name] not in values for name, values in USUAL.items() if name in call):
        return False
    return call["preexec_fn"] is None or bool(_name_of(call["preexec_fn"]))


def _name_of(function: Callable[[], None] | None) -> str:
    """`module:name`, by which another process finds the function; empty if it would not."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    return f"{module}:{name}" if function and getattr(sys.modules.get(module), name, None) is function else ""


class _Subprocess(ModuleType):
    """The module `subprocess` with another `Popen`, for one module that uses it."""

    def __init__(self, popen: type[subprocess.Popen[Any]]) -> None:
        super().__init__(subprocess.__name__)
        self.Popen = popen

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


def install(client: ForkClient) -> None:
    """Let the two places that start our server's processes ask `client`. Nobody else's `subprocess` changes."""
    replacement = _Subprocess(popen_of(client))
    for name in ("xinference.deploy.local_host", "xoscar.backends.indigen.fate_sharing"):
        if name in sys.modules:
            vars(sys.modules[name])["subprocess"] = replacement
    client.watch()
