"""
From configuration to what shall run: settings of the server process, its environment, and the model's plan.

What is compared on a second launch is exactly what is decided here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slo.config import Config
from slo.deploy.auth import wants_auth
from slo.deploy.catalogue import find_family, resolved
from slo.deploy.registration import OPENVINO, STOCK_ENGINE, ModelPlan, threads_per_replica
from slo.errors import SloError
from slo.host import usable_cores
from slo.model_files import ModelFiles
from slo.settings_alerts import is_channel_secret
from slo.tied import tied_command

EXTENSION = "slo.serve.extension"
ENGINE = "slo.serve.engine.engine"  # published by the extension
REFUSALS = "slo.serve.engine.refusals"
SECRETS = ("SLO_API_KEY", "SLO_ADMIN_USER", "SLO_ADMIN_PASSWORD")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The engine to use, and why it is not the one that was asked for (empty if it is)."""

    name: str
    extension: bool
    reason: str = ""


def choose_engine(config: Config, *, stock: bool) -> Engine:
    """OpenVINO comes with our extension; without it Xinference's own engine serves."""
    asked = config.server.engine
    if stock:
        return Engine(name=STOCK_ENGINE if asked == OPENVINO else asked, extension=False)
    missing = ""
    if not config.serve.enabled:
        missing = "serve.enabled is off"
    elif not _installed(EXTENSION):
        missing = f"{EXTENSION} is not installed"
    extension = not missing
    if asked == OPENVINO and extension:
        missing = next((f"{module} is not installed" for module in (ENGINE, "openvino") if not _installed(module)), "")
    if asked == OPENVINO and missing:
        reason = f"engine {STOCK_ENGINE} instead of {OPENVINO}: {missing}"
        return Engine(name=STOCK_ENGINE, extension=extension, reason=reason)
    return Engine(name=asked, extension=extension)


def suited(engine: Engine, directory: Path, models_dir: Path) -> Engine:
    """The engine that the model's files are for: Xinference's own, with the reason, where ours cannot run them.

    Whether it can is seen in the files, or was found out when they were converted into `models_dir`. Asks our engine
    in a process of its own, a fifth of a second: it is no part of this one.
    """
    if engine.name != OPENVINO:
        return engine
    command = tied_command(REFUSALS, str(directory), str(models_dir))
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != SloError.exit_code or not done.stdout:
        return engine
    reason = f"engine {STOCK_ENGINE} instead of {OPENVINO}: {done.stdout.splitlines()[0]}"
    return replace(engine, name=STOCK_ENGINE, reason=reason)


def _installed(module: str) -> bool:
    """Can `module` be imported? Looks for it without importing it: that would take seconds."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def model_plan(config: Config, files: ModelFiles, engine: Engine) -> ModelPlan:
    """What shall run, with everything that a change of needs a relaunch."""
    family = find_family(config.model.name, config.state_dir)
    return ModelPlan(
        name=config.model.name,
        uid=config.model.id,
        builtin=family is not None and family.builtin,
        directory=str(files.directory),
        dimension=files.dimension,
        max_tokens=files.max_tokens,
        language=config.model.language,
        stand_in=files.stand_in,
        engine=engine.name,
        precision=config.server.precision if engine.name == OPENVINO else "",
        device=config.server.device,
        replicas=config.server.replicas,
        threads=config.server.threads or threads_per_replica(config.server.replicas),
        streams=config.server.streams,
    )


def server_settings(config: Config, engine: Engine, *, stock: bool) -> dict[str, Any]:
    """Settings that the server process reads once, when it starts."""
    return {
        "host": config.server.host,
        "port": config.server.port,
        "auth": wants_auth(config),
        "stock": stock,
        "log": str(config.server.log),
        "fork_server": config.server.fork_server and not stock,
        "extension": engine.extension,
        # As the extension reads it.
        "serve": config.serve_settings() if engine.extension else {},
    }


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what only our own commands need to know."""
    return {k: v for k, v in environ.items() if k not in SECRETS and not is_channel_secret(k)}


def server_environment(
    config: Config, settings: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of the server process: ours, on top of the one we run in, without our secrets."""
    environment = without_secrets(os.environ if environ is None else environ)
    environment |= {
        "XINFERENCE_HOME": str(config.state_dir / "xinference"),
        "XINFERENCE_AUTH_ADVANCED": "1" if settings["auth"] else "0",
        # A virtual environment per model would need a network, and hide the engine of this one.
        "XINFERENCE_ENABLE_VIRTUAL_ENV": "0",
        # Files are on this disk: looking for a hub would block the worker for seconds at the first launch.
        "XINFERENCE_MODEL_SRC": "huggingface",
        "HF_HUB_OFFLINE": "1",
        "XINFERENCE_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        "PYTHONUNBUFFERED": "1",
        # Whatever the locale: names and texts are Chinese.
        "PYTHONUTF8": "1",
    }
    if (cores := usable_cores()) < len(os.sched_getaffinity(0)):  # a quota, which libraries do not see
        environment.setdefault("OMP_NUM_THREADS", str(cores))
    if settings["extension"]:
        environment["XINFERENCE_EXTENSIONS"] = f"{EXTENSION}:create"
        environment["SLO_SERVE_SETTINGS"] = json.dumps(settings["serve"])
        # For the live page: what is promised, and where `slo watch` keeps its history. For the door: what to expect.
        environment["SLO_OBJECTIVE"] = config.objective
        environment["SLO_MODEL_NAME"] = config.model.id
        environment["SLO_STATE_DIR"] = str(config.state_dir.absolute())
    else:
        environment.pop("XINFERENCE_EXTENSIONS", None)
    return environment


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Each setting that differs, as `serve.cache.max_size: 1 → 2`."""
    found: list[str] = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict) and old and new:
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key}" if isinstance(new, dict) else f"{prefix}{key}: {old} → {new}")
    return found


def absolute(config: Config) -> Config:
    """The configuration with its paths found and made absolute: the server works in whatever directory it likes."""
    config = resolved(config)
    assert config.model.path is not None  # noqa: S101 - just found
    return config.replaced(
        **{
            "state_dir": Path(os.path.abspath(config.state_dir.expanduser())),  # noqa: PTH100 - keeps symlinks
            "server.log": Path(os.path.abspath(config.server.log.expanduser())),  # noqa: PTH100
            "model.path": Path(os.path.abspath(config.model.path.expanduser())),  # noqa: PTH100
        }
    )
