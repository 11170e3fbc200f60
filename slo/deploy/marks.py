"""
Finding a server again whose record is lost: every process of it carries a mark, and its main process the whole record.

The main process is known by leading the session of the others, and the state directory by Xinference's home in it.

Also which code of ours a server was started with: one that runs on is not changed by an update of the package.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import psutil

from slo.deploy.state import INSTANCE_VARIABLE, ServerState, read_state
from slo.errors import StoreError

PACKAGE = Path(__file__).parents[1]
RECORD_VARIABLE = "XINFERENCE_SLO_RECORD"
_KEPT = ("endpoint", "log", "server", "metrics_port", "launch", "code")


def code_digest(package: Path = PACKAGE) -> str:
    """A short digest of all modules; equal when no line of them has changed."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def mark(state: ServerState) -> dict[str, str]:
    """Environment variables from which `state` can be read again. They hold no secret."""
    record = {key: value for key, value in asdict(state).items() if key in _KEPT}
    return {INSTANCE_VARIABLE: state.instance, RECORD_VARIABLE: json.dumps(record, ensure_ascii=False)}


def known_server(state_dir: Path) -> ServerState | None:
    """The recorded server, or the one that runs without a record; None if there is neither.

    Raises `StoreError` for a record that cannot be read while no server of this state directory runs.
    """
    try:
        state = read_state(state_dir)
    except StoreError:
        state = marked_server(state_dir)
        if state is None:
            raise
        return state
    return state or marked_server(state_dir)


def marked_server(state_dir: Path) -> ServerState | None:
    """A running server of `state_dir`, found by its processes alone; which model runs on it is not known."""
    home = str(state_dir / "xinference")
    for process in psutil.process_iter():
        try:
            environ = process.environ()
            leads = os.getsid(process.pid) == process.pid
        except (psutil.Error, OSError):
            continue  # gone, or another user's
        if not leads or not environ.get(INSTANCE_VARIABLE) or environ.get("XINFERENCE_HOME") != home:
            continue
        with suppress(ValueError, TypeError, KeyError):
            return ServerState(
                instance=environ[INSTANCE_VARIABLE], **json.loads(environ[RECORD_VARIABLE])
            ).started(process.pid)  # fmt: skip
        return _of_its_command(environ[INSTANCE_VARIABLE], process)
    return None


def _of_its_command(instance: str, process: psutil.Process) -> ServerState:
    """What is known of a server that an earlier version has started: where it listens, and where it writes."""
    words = process.cmdline()
    options = dict(pairwise(words))
    host, port = options.get("--host", "127.0.0.1"), options.get("--port", "9997")
    log = ""
    with suppress(OSError):
        log = str(Path(f"/proc/{process.pid}/fd/1").readlink())
    address = f"[{host}]" if ":" in host else host
    return ServerState(instance=instance, endpoint=f"http://{address}:{port}", log=log, server={}).started(process.pid)
