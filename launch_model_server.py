#!/usr/bin/env python3
"""
Bring gte-base-zh (or the model that configs/slo.yaml names) up on Xinference at port 9997.

    python launch_model_server.py            launch, or complete a launch; changes nothing when all is up
    python launch_model_server.py --status   what is up
    python launch_model_server.py --stop     stop what was started here
    python launch_model_server.py --help     everything else
"""

from __future__ import annotations

import sys

try:
    from slo.interrupt import end_at_once

    end_at_once()
    from slo.cli.launch_command import launch_model_server
    from slo.cli.main import run
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing}\n  → install the package first: `make launch` does it, or `pip install -e .`")

if __name__ == "__main__":
    sys.exit(run(launch_model_server))
