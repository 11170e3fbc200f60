"""
The server's processes: start one detached, watch it, stop it with everything that descends from it.

Stopping asks the main process first (it drains requests and stops its children), then takes what is left by
instance id. It never touches a process that does not carry that id.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from slo.clock import Clock, SystemClock, iso
from slo.deploy.machine import program_of
from slo.deploy.state import INSTANCE_VARIABLE, ServerState, processes_of
from slo.errors import EnvironmentProblem, StartError

TAIL_LINES = 15
# Requests under way get this long. Without a second signal the server would also wait for idle kept-alive connections.
DRAIN_S = 5.0


def open_log(path: Path, banner: str, clock: Clock | None = None) -> int:
    """Offset at which this start's part of the log begins, after writing `banner` there.

    Raises `EnvironmentProblem` if the log cannot be written.
    """
    clock = clock or SystemClock()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            offset = file.tell()
            file.write(f"==== {iso(clock.wall())} {banner}\n")
        return offset
    except OSError as error:
        raise EnvironmentProblem(
            f"{path}: the log cannot be written: {error.strerror}", hint="give another place with --log"
        ) from error


def append_log(path: Path, line: str, clock: Clock | None = None) -> None:
    """Add one line of ours to the server's log."""
    open_log(path, line, clock)


def spawn(command: Sequence[str], *, environment: Mapping[str, str], log: Path, instance: str = "") -> int:
    """Pid of `command`, started in a session of its own, its output appended to `log`, marked as `instance` if given.

    Not a `subprocess.Popen`: the process is meant to outlive us, and nobody here waits for its end.
    """
    return os.posix_spawn(
        command[0],
        list(command),
        {**environment, INSTANCE_VARIABLE: instance} if instance else dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            # Such as the lock of a `flock FILE make launch`: the server would hold it for as long as it lives.
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in _handed_down()),
        ],
        setsid=True,  # Ctrl-C in our terminal is for the launcher; it then decides about the server
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM],
    )


def _handed_down() -> list[int]:
    """Open files, beyond the standard three, that a child of this process would inherit."""
    fds = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()] if Path("/proc/self/fd").is_dir() else []
    found = []
    for fd in fds:
        with suppress(OSError):  # the one that listed the folder is closed again
            if fd > 2 and os.get_inheritable(fd):
                found.append(fd)
    return found


def entry_command(
    *,
    host: str,
    port: int,
    metrics_host: str,
    metrics_port: int,
    stock: bool,
    fork_server: bool,
    admin_file: Path | None,
    log: Path,
    log_bytes: int,
) -> list[str]:
    """The command line of the server, run by this Python."""
    return [
        sys.executable,
        "-m",
        "slo.deploy.entry",
        *(["--stock"] if stock else ["--fork-server"] if fork_server else []),
        *(["--admin-file", str(admin_file)] if admin_file else []),
        *("--log", str(log), str(log_bytes)),
        "--",
        *("--host", host, "--port", str(port)),
        *("--metrics-exporter-host", metrics_host, "--metrics-exporter-port", str(metrics_port)),
    ]


def log_tail(log: Path, offset: int = 0) -> str:
    """The last lines written to `log` since `offset`, without the ones that are only decoration."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= size else 0, size - 64 * 1024))  # shorter: it has been rotated
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join([line.rstrip() for line in lines if line.strip()][-TAIL_LINES:])


def ensure_running(state: ServerState, log_offset: int) -> None:
    """Raise `StartError` with the end of the log if the main process is gone."""
    if not state.alive:
        status = _reap(state.pid)
        how = "ended unexpectedly" + ("" if status is None else f": it {ending(status)}")
        raise StartError(
            f"the server process {state.pid} {how}",
            log_tail=log_tail(Path(state.log), log_offset),
            hint=f"the whole story is in {state.log}",
        )


def stop_instance(state: ServerState, *, timeout_s: float, clock: Clock | None = None) -> int:
    """Stop the server and all its descendants; the number of processes that were running.

    Politely at first, insistently after `DRAIN_S`, by force after `timeout_s`. Raises `StartError` if something
    survives even that.
    """
    clock = clock or SystemClock()
    running = processes_of(state.instance)
    start_s, asked = clock.monotonic(), 0
    while remaining := processes_of(state.instance):
        elapsed_s = clock.monotonic() - start_s
        if elapsed_s > timeout_s:
            kill_instance(state.instance, clock=clock)
            break
        if asked == 0 or (asked == 1 and elapsed_s > min(DRAIN_S, timeout_s / 2)):
            # The main process stops its children; where it is gone, nobody does, and each is asked itself.
            for process in [p for p in remaining if p.pid == state.pid] or remaining:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGTERM)
            asked += 1
        elif asked:
            _release(state.pid, remaining)
        clock.sleep(0.1)
        _reap(state.pid)
    return len(running)


def _release(main_pid: int, remaining: list[psutil.Process]) -> None:
    """End the resource trackers that Python has started, once only they and the main process are left.

    They ignore signals until the process ends that they work for, and Xinference's main process waits for them.
    """
    others = [process for process in remaining if process.pid != main_pid]
    if all("multiprocessing.resource_tracker" in program_of(process, length=300) for process in others):
        for process in others:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def ending(status: int) -> str:
    """How a process ended, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended by itself with code {code}"
    name = signal.Signals(-code).name
    return f"was ended by {name}" + (", by hand or by the kernel for want of memory" if name == "SIGKILL" else "")


def _reap(pid: int) -> int | None:
    """Take the exit status of a child of ours, so that it does not stay as a zombie; None for others and the living."""
    with suppress(ChildProcessError):
        ended, status = os.waitpid(pid, os.WNOHANG)
        return status if ended else None
    return None


def kill_instance(instance: str, *, clock: Clock | None = None) -> None:
    """Kill every process of `instance`, and those that appear meanwhile. Raises `StartError` if that fails."""
    clock = clock or SystemClock()
    quiet = 0
    for _ in range(100):
        remaining = processes_of(instance)
        quiet = 0 if remaining else quiet + 1
        if quiet == 2:  # twice, since a process just being started carries no mark yet
            return
        for process in remaining:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        clock.sleep(0.1)
    pids = ", ".join(str(process.pid) for process in remaining)
    raise StartError(f"processes {pids} cannot be stopped", hint="are they stuck in the kernel? see `ps -o stat`")
