"""
The server's main process: `xinference-local` in this interpreter, started a little better.

Run as `python -m slo.deploy.entry [--stock] [--fork-server] [--admin-file FILE] [--log FILE BYTES] -- OPTIONS OF
xinference-local`. In any case:

* The log is reopened when somebody has moved it, and rotated when it has grown. Only the main process writes to the
  file (its children write into pipes that it reads), so it alone tends it: a thread looks once a second. No signal is
  needed after a `logrotate`, and SIGHUP does nothing.
* A keeper that was killed, or hangs, is replaced while the server it keeps still lives. One that ends as it should
  removes its record (`keeper.json`); one that was killed leaves it. One in the foreground is its service manager's to
  restart. A thread looks, so that the two keep each other.

Eight things differ from the console script, none of them under `--stock`:

* uvloop. On asyncio's own loop the inherited listening socket lacks TCP_NODELAY and every answer on a kept-alive
  connection waits 40 ms for the client's delayed acknowledgement (notes, section 10).
* The other processes of the server are forked from this one's imports instead of importing the same again (see
  `slo.deploy.forkserver`), with `--fork-server`.
* No fixed sleep before the first health check of the cluster: 5 s that every start would pay. By then the cluster has
  registered itself, so the check succeeds at once; should it not, it is repeated quickly instead of slowly. Only this
  process is changed, its children keep the usual heartbeat.
* When the cluster process is gone this one ends at once: Xinference would first stop politely what can answer nothing
  any more, and the server would be down for those five to thirty seconds, too.
* OpenVINO reports no import to its maker, and has no thread to do so: nothing can be forked beside a thread.
* As many files may be open as the system allows: at 1024, the usual soft limit, idle connections alone end the server.
* Log records cannot be forged by what clients send (see `slo.logrecords`).
* The first user of an authenticated server exists before the server starts, so no setup token is ever logged.
"""

# ruff: noqa: PLC0415 - the order in which things are imported is what this module is about
from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from slo.clock import Clock, SystemClock
from slo.deploy.keeper_link import living_keeper, pulse, start_keeper, was_killed
from slo.deploy.state import INSTANCE_VARIABLE, read_state
from slo.errors import StoreError
from slo.files import private_folder
from slo.host import raise_open_files
from slo.logrecords import escape_log_records

KEPT = 3  # predecessors: .1 is the youngest
SIZE_LOOK_S = 1.0
STANDARD = (1, 2)
LOOK_S = 5.0
HALTED_S = 30.0  # without a round, of which it does two a second
QUICK_START = {"XINFERENCE_HEALTH_CHECK_INTERVAL": 0, "XINFERENCE_HEALTH_CHECK_FAILURE_THRESHOLD": 2000}
# What the main, cluster and model processes import sooner or later.
SHARED = (
    "xinference.deploy.local", "xinference.deploy.local_host", "xinference.deploy.cmdline", "xinference.core.model",
    "xinference.api.restful_api", "xoscar.backends.indigen.pool",
)  # fmt: skip
logger = logging.getLogger("xinference.slo")  # Xinference's console shows only loggers below its own name
OURS = ("slo.serve.engine.engine", "slo.serve.install", "slo.serve.door.replicas")


class LogFile:
    """The file at `path`, which the open files `fds` write to. `most_bytes` bounds it with all predecessors."""

    def __init__(self, path: Path, most_bytes: int, fds: tuple[int, ...] = STANDARD) -> None:
        self._path = path
        self._share_bytes = most_bytes // (KEPT + 1)
        self._fds = fds

    def tend(self) -> bool:
        """Rotate or reopen, if that is due; True if it was. Raises OSError, and then goes on with the old file."""
        try:
            there, ours = self._path.stat(), os.fstat(self._fds[0])
        except FileNotFoundError:
            self._reopen()
            return True
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self._reopen()
            return True
        if there.st_size < self._share_bytes:
            return False
        for number in range(KEPT, 0, -1):
            older = self._numbered(number)
            with suppress(FileNotFoundError):
                (self._numbered(number - 1) if number > 1 else self._path).replace(older)
        self._reopen()
        return True

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _reopen(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            for fd in self._fds:
                os.dup2(fresh, fd)  # inheritable, as the standard files are
        finally:
            os.close(fresh)


def tend_for_ever(path: Path, most_bytes: int) -> None:
    """Tend the log of this process in a thread; started when nothing is forked from here any more."""
    log = LogFile(path, most_bytes)

    def look() -> None:
        while True:
            time.sleep(SIZE_LOOK_S)
            with suppress(OSError):  # no permission, no space: the old file serves on
                log.tend()

    threading.Thread(target=look, daemon=True, name="slo-log").start()


class KeeperGuard:
    """Looks after the keeper of `state_dir` for the server `instance`. `look` once every few seconds."""

    def __init__(self, state_dir: Path, instance: str, log: Path, clock: Clock) -> None:
        self._state_dir = state_dir
        self._instance = instance
        self._log = log
        self._clock = clock
        self._seen: tuple[int, int | None] = (0, None)
        self._since_s = self._looked_s = clock.monotonic()

    def look(self) -> bool:
        """Replace the keeper if that is due; True if it was. Raises OSError and `StoreError`."""
        now_s = self._clock.monotonic()
        awake = now_s - self._looked_s < HALTED_S / 2  # else this process did not run itself, and knows nothing
        self._looked_s = now_s
        keeper = living_keeper(self._state_dir)
        if keeper is None:
            state = read_state(self._state_dir) if was_killed(self._state_dir) else None
            if state is None or state.instance != self._instance:
                return False
            start_keeper(self._state_dir, self._log)
            return True
        seen = (keeper.pid, pulse(keeper.pid))
        if seen != self._seen or seen[1] is None or not awake:
            self._seen, self._since_s = seen, now_s
        elif now_s - self._since_s > HALTED_S and not keeper.foreground:
            with suppress(ProcessLookupError):
                os.kill(keeper.pid, signal.SIGKILL)  # its record stays: the next look replaces it
        return False


def guard_for_ever(state_dir: Path, instance: str, log: Path) -> None:
    """Look in a thread; started when nothing is forked from here any more."""
    clock = SystemClock()
    guard = KeeperGuard(state_dir, instance, log, clock)

    def look() -> None:
        while True:
            clock.sleep(LOOK_S)
            with suppress(OSError, StoreError):  # no space, no memory: perhaps at the next look
                guard.look()

    threading.Thread(target=look, daemon=True, name="slo-keeper-guard").start()


def main(arguments: list[str]) -> None:
    """Run the server until it is told to stop; or, in a process that was forked, what that one is for."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # sent by logrotate and by terminals; all children inherit it
    ours, theirs = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    stock = "--stock" in ours
    if not stock:
        raise_open_files()
        escape_log_records()
        preload()
        if "--fork-server" in ours:
            from slo.deploy import forkserver
            from slo.deploy.forkclient import install

            opened = forkserver.open_server()
            if isinstance(opened, forkserver.Task):
                return forkserver.run(opened)
            if opened is not None:
                install(opened)
        _quick_start()
        _end_with_cluster()
    if "--log" in ours:
        place = ours.index("--log")
        tend_for_ever(Path(ours[place + 1]), int(ours[place + 2]))
        guard_for_ever(Path(os.environ["XINFERENCE_HOME"]).parent, os.environ[INSTANCE_VARIABLE], Path(ours[place + 1]))
    if "--admin-file" in ours:
        create_admin(Path(ours[ours.index("--admin-file") + 1]))
    if not stock:
        import asyncio

        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    from xinference.deploy.cmdline import local

    local(theirs)
    return None


def preload() -> None:
    """Import what the server needs, as long as nothing runs beside."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it then counts as not installed
    # As Xinference sets it for its children, for whom it would otherwise come too late.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "info")
    # pyarrow, where it is installed, would start a thread merely by being imported, and so rule out a fork server.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    # Imports make many objects and hardly any garbage: looking for it takes a sixth of the time.
    gc.disable()
    from xinference.constants import XINFERENCE_SYSTEM_SETTINGS_PATH
    from xinference.core.system_settings_store import initialize_system_settings

    # Puts saved settings into the environment; Xinference's own start does that first, too.
    initialize_system_settings(XINFERENCE_SYSTEM_SETTINGS_PATH)
    with_extension = os.environ.get("XINFERENCE_EXTENSIONS") and importlib.util.find_spec("openvino")
    for name in (*SHARED, *(OURS if with_extension else ())):
        importlib.import_module(name)
    gc.enable()


def _quick_start() -> None:
    """Change the constants of this process, wherever a module has taken a copy of them."""
    for name, module in list(sys.modules.items()):
        if name.startswith("xinference."):
            vars(module).update({key: value for key, value in QUICK_START.items() if key in vars(module)})


def _end_with_cluster() -> None:
    """Have Xinference's look at its cluster process, ten times a second, end all that is left of a dead one."""
    from xinference.deploy.local_host import LocalHost

    look = LocalHost.check

    def check(host: Any) -> None:
        code = host.cluster.poll() if host.cluster is not None else None
        if code is not None:
            logger.error("the cluster process %d ended (code %d), and the server with it", host.cluster.pid, code)
            host.owner.kill()
            for folder in (host.directory, Path(host.worker_socket).parent):  # its temporary files
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(1)
        look(host)

    LocalHost.check = check


def create_admin(file: Path) -> None:
    """Make the account in `file` the first user, if Xinference's own database has none yet."""
    from xinference.api.oauth2.advanced.auth_service import INITIAL_ADMIN_PERMISSIONS
    from xinference.api.oauth2.advanced.crypto import get_password_hash
    from xinference.api.oauth2.advanced.database import Database
    from xinference.constants import XINFERENCE_AUTH_DB_PATH

    account = json.loads(file.read_text(encoding="utf-8"))
    folder = Path(XINFERENCE_AUTH_DB_PATH).parent
    private_folder(folder)
    folder.chmod(0o700)  # Xinference may have made it; the database is readable by all as the host creates it
    Database(XINFERENCE_AUTH_DB_PATH).create_first_user(
        account["username"], get_password_hash(account["password"]), permissions=INITIAL_ADMIN_PERMISSIONS
    )


if __name__ == "__main__":
    main(sys.argv[1:])
