"""The server process as a stage of a launch: the one that runs already, or a new one."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from slo.addresses import is_loopback
from slo.clock import Clock
from slo.deploy import auth
from slo.deploy.job import LaunchJob
from slo.deploy.keeper_link import restart_command
from slo.deploy.launch_plan import differences, server_environment
from slo.deploy.machine import free_port
from slo.deploy.marks import code_digest, known_server, mark
from slo.deploy.process import (
    ensure_running,
    entry_command,
    kill_instance,
    log_tail,
    open_log,
    spawn,
    stop_instance,
)
from slo.deploy.restarts import HANG_S, PATIENCE_S, SilentChecks, answers
from slo.deploy.state import ServerState, forget_state, halted, read_state, start_of, write_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import ConfigError, StartError, StoreError


def living_server(job: LaunchJob) -> ServerState | None:
    """The server that we started earlier, if it still runs. What is left of a dead one is cleared away."""
    own = known_server(job.config.state_dir)
    if own is None:
        return None
    if own.alive and _hangs(job, own):
        job.progress.say(f"the server (pid {own.pid}) hangs: it does not answer; it is ended", style="yellow")
        kill_instance(own.instance, clock=job.clock)
    if own.alive:
        if _recorded(job.config.state_dir) != own:  # a disk without room is no reason to refuse what is up already
            write_state(job.config.state_dir, own)
        if own.code != code_digest():
            job.progress.say(
                f"the server (pid {own.pid}) runs other code than is installed here; to change that: "
                f"{restart_command(job.config.state_dir)}",
                style="yellow",
            )
        return own
    orphans = stop_instance(own, timeout_s=5.0, clock=job.clock)
    if job.revive:  # a start that fails leaves what the next one begins with
        job.undo.callback(write_state, job.config.state_dir, own)
    else:
        forget_state(job.config.state_dir)
    tail = f", {orphans} left-over processes of it stopped" if orphans else ""
    job.progress.say(f"the server started earlier (pid {own.pid}) is gone{tail}", style="yellow")
    return None


def _recorded(state_dir: Path) -> ServerState | None:
    """What the record says; None if it was lost or damaged."""
    try:
        return read_state(state_dir)
    except StoreError:
        return None


def _hangs(job: LaunchJob, own: ServerState) -> bool:
    """Did nobody answer for as long as a keeper would wait? One that has just been started need not answer yet."""
    silence, start = SilentChecks(HANG_S, job.clock.monotonic()), start_of(own.pid)
    young = start is not None and job.clock.wall() - start.created_s < job.config.server.start_timeout
    if young and not halted(own.pid):
        return False
    while not answers(own.endpoint, "/status", timeout_s=PATIENCE_S):
        if not own.alive:
            return False
        if silence.record(job.clock.monotonic(), answered=False):
            return True
        job.progress.busy("the server is silent")
        job.clock.sleep(0.5)
    return False


def same_server(own: ServerState, settings: dict[str, Any], state_dir: Path) -> ServerState:
    """`own`, if it runs with `settings`."""
    changed = differences(own.server, settings)
    if changed:
        raise ConfigError(
            f"the server runs already (pid {own.pid}) with other settings: {', '.join(changed)}",
            hint=f"to have them: {restart_command(state_dir)}",
        )
    return own


def set_damaged_aside(job: LaunchJob, *, auth_on: bool) -> None:
    """Xinference does not start with a damaged file of its own: neither a database nor a registered model.

    None holds what a launch cannot do again, but the accounts: where they are asked for, `StartError` is raised.
    """
    home = job.config.state_dir / "xinference"
    for path in sorted([*home.glob("*.db"), *home.glob("auth/*.db"), *home.glob("model/**/*.json")]):
        reason = _damage(path)
        if reason is None:
            continue
        if auth_on and path.parent.name == "auth":
            raise StartError(
                f"{path}: the accounts and API keys cannot be read: {reason}",
                hint="put a backup in its place, or move it away: then all keys have to be made anew",
            )
        aside = f"{path.name}.damaged-{int(job.clock.wall())}"
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(path.with_name(aside + end))
        job.progress.say(f"{path} was damaged ({reason}): set aside as {aside}", style="yellow")


def _damage(path: Path) -> str | None:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
            return None
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
        return None if found == "ok" else found
    except (OSError, sqlite3.OperationalError):  # locked or not to be opened: then that is what is told
        return None
    except (ValueError, sqlite3.DatabaseError) as error:
        return str(error)


def start_server(job: LaunchJob, settings: dict[str, Any]) -> ServerState:
    """A server process, started and recorded; not ready yet."""
    set_damaged_aside(job, auth_on=bool(settings["auth"]))
    config, server = job.config, job.config.server
    instance = secrets.token_hex(8)
    for fresh in (config.state_dir / "xinference", config.state_dir / auth.ADMIN_FILE):
        if not fresh.exists():
            job.undo.callback(_remove, fresh)
    admin_file = None
    if settings["auth"]:
        auth.own_account(config.state_dir)
        admin_file = config.state_dir / auth.ADMIN_FILE
    metrics_host = server.host if is_loopback(server.host) else "127.0.0.1"
    metrics_port = free_port(metrics_host)
    command = entry_command(
        host=server.host, port=server.port, metrics_host=metrics_host, metrics_port=metrics_port, stock=job.stock,
        fork_server=settings["fork_server"], admin_file=admin_file, log=server.log, log_bytes=server.log_size,
    )  # fmt: skip
    new_log = not server.log.exists()
    job.log_offset = open_log(server.log, f"start of xinference-local on {server.host}:{server.port}", job.clock)
    if new_log and server.log.is_file():
        job.undo.callback(_keep_only_a_telling_log, server.log)
    # Xinference's notes for a worker that comes back at the same address. Here the address is new at every start, so
    # they are never read, and there would be one folder more each time.
    shutil.rmtree(config.state_dir / "xinference" / "worker_recovery", ignore_errors=True)
    # Before the process exists: an interrupt between its start and the next line must find it, too.
    job.undo.callback(_undo_start, config.state_dir, instance, job.clock)
    state = ServerState(
        instance=instance, endpoint=config.endpoint, log=str(server.log), server=settings, metrics_port=metrics_port,
        launch=job.facts(), code=code_digest(),
    )  # fmt: skip
    pid = spawn(command, environment={**server_environment(config, settings), **mark(state)}, log=server.log)
    job.started = job.changed = True
    state = state.started(pid)
    write_state(config.state_dir, state)
    return state


def _remove(path: Path) -> None:
    """Remove a file or a tree that a start has made and that no server uses any more."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _undo_start(state_dir: Path, instance: str, clock: Clock) -> None:
    kill_instance(instance, clock=clock)
    forget_state(state_dir)


def _keep_only_a_telling_log(log: Path) -> None:
    """Remove a log that did not exist before and in which the server has not written a line."""
    if log.read_bytes().count(b"\n") <= 1:
        log.unlink()


def wait_for_workers(job: LaunchJob, api: XinferenceApi, state: ServerState) -> None:
    deadline_s = job.clock.monotonic() + job.config.server.start_timeout
    while not api.workers():
        ensure_running(state, job.log_offset)
        if job.clock.monotonic() > deadline_s:
            raise StartError(
                f"{api.endpoint}: no answer after {job.config.server.start_timeout:g} s",
                log_tail=log_tail(Path(state.log), job.log_offset),
                hint="raise server.start_timeout, or look into the log",
            )
        job.progress.busy("importing libraries, starting processes")
        job.clock.sleep(0.1)
