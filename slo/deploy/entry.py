"""
The server's main process: `xinference-local` in this interpreter, started a little better.

Run as `python -m slo.deploy.entry [--stock] [--admin-file FILE] -- OPTIONS OF xinference-local`.

Three things differ from the console script, none of them under `--stock`:

* uvloop. On asyncio's own loop the inherited listening socket lacks TCP_NODELAY and every answer on a kept-alive
  connection waits 40 ms for the client's delayed acknowledgement (notes, section 10).
* No fixed sleep before the first health check of the cluster: 5 s that every start would pay. By then the cluster has
  registered itself, so the check succeeds at once; should it not, it is repeated quickly instead of slowly. Only this
  process reads these values, its children keep the usual heartbeat.
* The first user of an authenticated server exists before the server starts, so no setup token is ever logged.
"""

# ruff: noqa: PLC0415 - the order in which things are imported is what this module is about
from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

QUICK_START = {"XINFERENCE_HEALTH_CHECK_INTERVAL": "0", "XINFERENCE_HEALTH_CHECK_FAILURE_THRESHOLD": "2000"}


def main(arguments: list[str]) -> None:
    """Run the server until it is told to stop."""
    ours, theirs = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    if "--stock" not in ours:
        _quick_start()
    if "--admin-file" in ours:
        create_admin(Path(ours[ours.index("--admin-file") + 1]))
    if "--stock" not in ours:
        import asyncio

        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        # Imports make many objects and hardly any garbage: looking for it takes a sixth of the time.
        gc.disable()
        import xinference.deploy.local  # noqa: F401

        gc.enable()
    from xinference.deploy.cmdline import local

    local(theirs)


def _quick_start() -> None:
    """Let the constants of this process be read with `QUICK_START`, then give children the environment as it was."""
    before = {name: os.environ.get(name) for name in QUICK_START}
    os.environ.update(QUICK_START)
    import xinference.constants  # noqa: F401 - read once, at import

    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def create_admin(file: Path) -> None:
    """Make the account in `file` the first user, if Xinference's own database has none yet."""
    from xinference.api.oauth2.advanced.auth_service import INITIAL_ADMIN_PERMISSIONS
    from xinference.api.oauth2.advanced.crypto import get_password_hash
    from xinference.api.oauth2.advanced.database import Database
    from xinference.constants import XINFERENCE_AUTH_DB_PATH

    account = json.loads(file.read_text(encoding="utf-8"))
    Path(XINFERENCE_AUTH_DB_PATH).parent.mkdir(parents=True, exist_ok=True)
    Database(XINFERENCE_AUTH_DB_PATH).create_first_user(
        account["username"], get_password_hash(account["password"]), permissions=INITIAL_ADMIN_PERMISSIONS
    )


if __name__ == "__main__":
    main(sys.argv[1:])
