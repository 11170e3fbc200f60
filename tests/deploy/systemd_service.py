"""What `test_real_systemd` has systemd run in place of a launch: a server of a few lines, then its keeper."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from slo.deploy import keeper
from slo.deploy.process import spawn
from slo.deploy.restarts import answers
from slo.deploy.state import ServerState, write_state
from tests.deploy.test_keeper import REVIVER, SERVER
from tests.real_servers import until


def main() -> int:
    """Start the server, and become its keeper in the foreground."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    state = ServerState(
        instance="test-systemd-first", endpoint=f"http://127.0.0.1:{port}", log=str(folder / "log"), server={},
        metrics_port=port, model={"code": SERVER}, launch={"config": {"server": {"restart": True}}},
    )  # fmt: skip
    (folder / "log").touch()
    command = [sys.executable, "-c", SERVER, str(port)]
    pid = spawn(command, environment=dict(os.environ), log=folder / "log", instance=state.instance)
    write_state(folder, state.started(pid))
    until("the server is up", lambda: answers(state.endpoint, "/", timeout_s=1.0))
    return keeper.main([str(folder), "--foreground"], reviver=(sys.executable, "-c", REVIVER))


if __name__ == "__main__":
    sys.exit(main())
