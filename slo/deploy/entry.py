"""
The server's main process: `xinference-local` in this interpreter, started a little better.

Run as `python -m slo.deploy.entry [--stock] [--fork-server] [--admin-file FILE] [--log FILE BYTES] -- OPTIONS OF
xinference-local`. In any case SIGHUP is ignored, the log is rotated and reopened (see `slo.deploy.logfile`),
and a keeper that was killed is replaced (see `slo.deploy.keeper_guard`).

Seven things differ from the console script, none of them under `--stock`:

* uvloop. On asyncio's own loop the inherited listening socket lacks TCP_NODELAY and every answer on a kept-alive
  connection waits 40 ms for the client's delayed acknowledgement (notes, section 10).
* The other processes of the server are forked from this one's imports instead of importing the same again (see
  `slo.deploy.forkserver`), with `--fork-server`.
* No fixed sleep before the first health check of the cluster: 5 s that every start would pay. By then the cluster has
  registered itself, so the check succeeds at once; should it not, it is repeated quickly instead of slowly. Only this
  process is changed, its children keep the usual heartbeat.
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
import os
import signal
import sys
from pathlib import Path

from slo.deploy.keeper_guard import guard_for_ever
from slo.deploy.logfile import tend_for_ever
from slo.deploy.state import INSTANCE_VARIABLE
from slo.files import private_folder
from slo.host import raise_open_files
from slo.logrecords import tame_log_records

QUICK_START = {"XINFERENCE_HEALTH_CHECK_INTERVAL": 0, "XINFERENCE_HEALTH_CHECK_FAILURE_THRESHOLD": 2000}
# What the main, cluster and model processes import sooner or later.
SHARED = (
    "xinference.deploy.local", "xinference.deploy.local_host", "xinference.deploy.cmdline", "xinference.core.model",
    "xinference.api.restful_api", "xoscar.backends.indigen.pool",
)  # fmt: skip
OURS = ("slo.serve.engine.engine", "slo.serve.install", "slo.serve.door.replicas")


def main(arguments: list[str]) -> None:
    """Run the server until it is told to stop; or, in a process that was forked, what that one is for."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # sent by logrotate and by terminals; all children inherit it
    ours, theirs = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    stock = "--stock" in ours
    if not stock:
        raise_open_files()
        tame_log_records()
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
