"""
How remedies are carried out: by commands of ours beside the watch, and by orders to the server.

Launching takes as long as a model takes to load, so it is a process of its own, and adding a replica a thread: the
watch goes on meanwhile. `impossible` says which remedies cannot work with a configuration, before they are needed.
"""

# ruff: noqa: PLC0415 - a watch loads what gives orders when it gives one
from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slo.addresses import is_loopback
from slo.config import Config
from slo.errors import EnvironmentProblem, SloError
from slo.files import private_folder
from slo.settings_alerts import is_channel_secret
from slo.watch.remediation import Executor, Remedy, Undo
from slo.watch.wiring import enabled_remedies

if TYPE_CHECKING:
    from slo.deploy.xinference_api import Account, XinferenceApi

PATIENCE_S = 10.0  # for an order that is carried out at once

_RUN = "import sys; from slo.cli.launch_command import launch_model_server as m; from slo.cli.main import run; "
_RESTART = "sys.exit(run(m, [*sys.argv[1:], '--restart']))"
_LAUNCH = "sys.exit(run(m, sys.argv[1:]))"


def executors(config: Config, config_path: Path | None, complain: Callable[[str], None]) -> dict[Remedy, Executor]:
    """Remedies that can be carried out from here."""
    options = ["--config", str(config_path)] if config_path else []

    def launch() -> None:
        _start(config, [_RUN + _LAUNCH, *options])

    def restart() -> None:
        _start(config, [_RUN + _RESTART, *options])

    def shed() -> Undo:
        order(config, {"action": "admission", "policy": "shed"})
        return lambda: _done(order(config, {"action": "admission", "policy": "queue"}))

    def clear_cache() -> None:
        order(config, {"action": "clear_cache"})

    known: dict[Remedy, Executor] = {
        # A launch completes whatever is missing: here, the model.
        "relaunch_model": launch,
        "restart_server": restart,
        "add_replica": lambda: Addition(config, complain).undo,
        "shed": shed,
        "clear_cache": clear_cache,
    }
    without = _reasons(config)
    return {remedy: executor for remedy, executor in known.items() if remedy not in without}


def impossible(config: Config) -> list[str]:
    """A sentence for each remedy that is turned on and cannot work with this configuration."""
    reasons, enabled = _reasons(config), enabled_remedies(config)
    return [f"watch.remediation.{remedy} is on, but {reason}" for remedy, reason in reasons.items() if enabled[remedy]]


def order(config: Config, what: dict[str, Any]) -> dict[str, Any]:
    """Have the server carry out `what` (see `slo.serve.web.control`). Raises a `SloError`."""
    with _api(config) as api:
        return api.control(what)


def add_replica(config: Config) -> int:
    """One more replica of the model, ready when this returns; its number. Raises a `SloError`."""
    with _api(config) as api:
        return api.add_replica(config.model.id)


def remove_replica(config: Config, number: int) -> None:
    """Stop the replica of that number. Raises a `SloError`."""
    with _api(config) as api:
        api.remove_replica(config.model.id, number)


class Addition:
    """One more replica, being added in the background."""

    def __init__(self, config: Config, complain: Callable[[str], None]) -> None:
        self._config = config
        self._complain = complain
        self._number: int | None = None
        self._thread = threading.Thread(target=self._add, daemon=True)
        self._thread.start()

    def undo(self) -> None:
        """Stop it again. Raises a `SloError` when that fails; nothing to do where none was added."""
        if self._thread.is_alive():
            raise EnvironmentProblem("the replica is still being added")
        if self._number is not None:
            remove_replica(self._config, self._number)

    def _add(self) -> None:
        try:
            self._number = add_replica(self._config)
        except SloError as error:
            self._complain(f"action add_replica: failed: {error.message}")
        else:
            self._complain(f"action add_replica: replica {self._number} of {self._config.model.id} is up")


def _reasons(config: Config) -> dict[Remedy, str]:
    """Why a remedy cannot be carried out with this configuration, by remedy."""
    found: dict[Remedy, str] = {}
    serve, foreign = config.serve, config.server.endpoint
    if foreign:
        from slo.deploy import auth

        why = f"the server at {foreign} is somebody else's: only one that was launched here can be launched again"
        found |= {"relaunch_model": why, "restart_server": why}
        if not is_loopback(urlsplit(foreign).hostname or "") and auth.given_account() is None:
            why = "a server on another machine obeys an administrator alone: set SLO_ADMIN_USER and SLO_ADMIN_PASSWORD"
            found |= {"shed": why, "clear_cache": why, "add_replica": why}
        return found
    if not serve.enabled:
        found |= dict.fromkeys(("shed", "clear_cache"), "it needs the extension, and serve.enabled is false")
        return found
    if serve.admission.policy == "shed":
        found["shed"] = "serve.admission.policy is shed already"
    if not serve.cache.enabled:
        found["clear_cache"] = "serve.cache.enabled is false: there is nothing to clear"
    return found


@contextmanager
def _api(config: Config) -> Iterator[XinferenceApi]:
    from slo.deploy.xinference_api import XinferenceApi

    api = XinferenceApi(config.endpoint, account=_account(config), timeout_s=PATIENCE_S)
    try:
        yield api
    finally:
        api.close()


def _account(config: Config) -> Account | None:
    """Who may give orders there: nobody in particular where authentication is off."""
    from slo.deploy import auth

    if config.server.endpoint:
        return auth.given_account()
    return auth.own_account(config.state_dir) if (config.state_dir / auth.ADMIN_FILE).exists() else None


def _done(_: object) -> None:
    """An undo returns nothing."""


def _start(config: Config, arguments: list[str]) -> None:
    """Start a command of ours beside the watch; what it says goes to `remediation.log`."""
    try:
        private_folder(config.state_dir)
        with (config.state_dir / "remediation.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-c", *arguments],
                env={k: v for k, v in os.environ.items() if not is_channel_secret(k)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise EnvironmentProblem(f"cannot be started: {error}") from error
