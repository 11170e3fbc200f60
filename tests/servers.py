"""Real servers for tests: settings that keep everything in one folder, launch, hand out, stop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from slo.config import Config
from slo.deploy.job import Launched, Progress
from slo.deploy.launch import launch
from slo.deploy.machine import free_port
from slo.deploy.status import stop
from slo.files import private_folder


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server: where it answers, what it was launched with, and where it keeps its state."""

    endpoint: str
    model: str
    dimension: int
    config: Config
    config_file: Path
    state_dir: Path
    log: Path
    launched: Launched


def settings(directory: Path, model_path: Path, **server: object) -> Config:
    """A configuration that keeps everything below `directory`, on a port of its own, and never downloads."""
    return Config.model_validate(
        {
            "model": {"path": model_path, "download": False, "stand_in": "tiny"},
            # Tests kill servers and look at what is left; those of the keeper ask for one.
            "server": {
                "port": free_port("127.0.0.1"),
                "log": directory / "model_server.log",
                "restart": False,
                "start_timeout": 600,  # beside other load
                "launch_timeout": 900,
                **server,
            },
            "state_dir": directory / "state",
        }
    )


def write_config(config: Config, file: Path) -> Path:
    """`config` as a file for `--config`."""
    file.write_text(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    return file


def running(config: Config, directory: Path, *, stock: bool = False, graphs: Path | None = None) -> Iterator[Server]:
    """Launch, hand out, stop. With `graphs`, what was made from the model before is found, as at a second start."""
    config_file = write_config(config, directory / "slo.yaml")
    if graphs:
        private_folder(config.state_dir)
        shutil.copytree(graphs, config.state_dir / "models")
    try:
        with (directory / "launch.txt").open("w", encoding="utf-8") as report:
            launched = launch(config, Progress(Console(file=report, width=200)), stock=stock)
        yield Server(
            endpoint=launched.endpoint,
            model=launched.plan.name,
            dimension=launched.plan.dimension,
            config=config,
            config_file=config_file,
            state_dir=config.state_dir,
            log=config.server.log,
            launched=launched,
        )
    finally:
        stop(config, say=lambda _: None)
