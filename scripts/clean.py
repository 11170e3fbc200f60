"""
`make clean`: removes what the toolkit keeps for the configuration in force: its state directory and the server's log.

Only a folder that is a state directory by its contents is removed, never one that holds this project or a home.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from slo.config import load
from slo.errors import SloError

# What only a state directory holds. Without any of them the folder is somebody else's.
MARKS = ("xinference", "models", "runs", "history.db", "outbox.db", "server.json", "heartbeat.json", "alerts.jsonl")


def clean(state_dir: Path, log: Path) -> str | None:
    """Remove both, rotated logs included; the reason if the state directory has to stay."""
    for old in (log, *log.parent.glob(f"{log.name}.*")):
        old.unlink(missing_ok=True)
    folder = state_dir.expanduser().resolve()
    if not folder.exists():
        return None
    here = Path.cwd().resolve()
    mine = any((folder / mark).exists() for mark in MARKS) or not any(folder.iterdir())
    home = Path(os.environ.get("HOME") or "/").resolve()
    if not mine or (folder / ".git").exists() or folder in (home, here, *here.parents):
        return f"{folder} is more than the toolkit's state; remove what you mean by hand"
    shutil.rmtree(folder)
    return None


if __name__ == "__main__":
    try:
        config = load()
        problem = clean(config.state_dir, config.server.log)
    except SloError as error:
        problem = str(error)
    if problem:
        sys.exit(f"error: {problem}")
