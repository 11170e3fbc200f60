"""`python -m slo.deploy.revive STATE_DIR INSTANCE`: launch a dead server and its model again, as they were."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from slo.config import Config
from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.state import read_state
from slo.errors import Interrupted, SloError, StoreError


def recorded_config(data: dict[str, Any]) -> Config:
    """The configuration of a record. What this version does not know any more is left out. Raises `StoreError`."""
    for _ in range(20):
        try:
            return Config.model_validate(data)
        except ValidationError as error:
            unknown = [item["loc"] for item in error.errors() if item["type"] == "extra_forbidden"]
            if not unknown:
                raise StoreError(f"server.json: its configuration is not valid any more: {error}") from error
            for *above, name in unknown:
                section = data
                for key in above:
                    section = section[str(key)]
                del section[str(name)]
    raise StoreError("server.json: its configuration is not one of this version")


def main(arguments: list[str]) -> int:
    """Exit code 0 when the server is up, or when somebody else has taken care of it."""
    state_dir, instance = Path(arguments[0]), arguments[1]
    progress = Progress(Console(file=sys.stdout, width=200))
    try:
        state = read_state(state_dir)
        if state is None or state.instance != instance:
            return 0
        if "config" not in state.launch:
            raise StoreError(f"{state_dir}: the record is of an earlier version", hint="launch the server once by hand")
        config = recorded_config(state.launch["config"])
        # Never the stand-in in place of a model whose files have gone.
        launch(
            config, progress,
            stock=bool(state.launch.get("stock")), path_required=state.model.get("directory") == str(config.model.path),
            revive=instance,
        )  # fmt: skip
    except Interrupted as error:
        progress.say(error.message)
        state = read_state(state_dir)
        return error.exit_code if state is not None and state.instance == instance and not state.alive else 0
    except SloError as error:
        progress.say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
