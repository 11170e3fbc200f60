"""One of the two servers that `bench.py` compares: started, asked, measured and stopped by the commands a user has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from slo.deploy.state import processes_of, read_state
from slo.records import Run, load_run

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".slo" / "bench"
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Memory:
    """MiB. A page that several processes share counts once in `server` and `model` (PSS), and fully in `model_rss`."""

    server: float
    model: float
    model_rss: float


class Side:
    """`stock` or `ours`, on a port and in a state directory of its own, so that both can be up at a time."""

    def __init__(self, name: str, port: int, *, stock: bool) -> None:
        self.name = name
        self.endpoint = f"http://127.0.0.1:{port}"
        self.state_dir = FOLDER / name
        self.start_s = 0.0
        self.runs: dict[str, list[Run]] = {}
        self._launch = ["--no-download", *(["--stock"] if stock else [])]
        self.environment = {
            **os.environ,
            "SLO_STATE_DIR": str(self.state_dir),
            "SLO_SERVER_PORT": str(port),
            "SLO_SERVER_LOG": str(self.state_dir / "server.log"),
        }

    def launch(self) -> None:
        """Start it; a model that must be converted first is, and the second start is the one that is timed."""
        begun_s = time.monotonic()
        self._launcher(*self._launch)
        self.start_s = time.monotonic() - begun_s

    def stop(self) -> None:
        """Stop it, if it runs."""
        self._launcher("--stop")

    def slo(self, step: str, *arguments: str) -> Run:
        """Run one measuring command and keep its record under `step`."""
        print(f"$ slo {' '.join(arguments)}    # {self.name}", file=sys.stderr, flush=True)
        folder = self.state_dir / "runs"
        before = set(folder.glob("*.json"))
        done = subprocess.run(
            [sys.executable, "-m", "slo", *arguments], check=False, env=self.environment, stdout=subprocess.DEVNULL
        )
        if done.returncode == 130:
            raise KeyboardInterrupt
        new = sorted(set(folder.glob("*.json")) - before)
        if done.returncode == 2 or not new:
            sys.exit(f"slo {' '.join(arguments)} ended with code {done.returncode}")
        run = load_run(str(new[-1]), self.state_dir)
        self.runs.setdefault(step, []).append(run)
        return run

    def run(self, step: str) -> Run:
        """The last record of `step`."""
        return self.runs[step][-1]

    def policy(self, policy: str) -> None:
        """Have a running server of ours shed or queue from now on."""
        order = {"action": "admission", "policy": policy}
        requests.post(f"{self.endpoint}/slo/api/control", json=order, timeout=10).raise_for_status()

    def memory(self) -> Memory:
        """Of all its processes, and of the one that holds the model."""
        state = read_state(self.state_dir)
        found = [] if state is None else [(p, p.memory_full_info()) for p in processes_of(state.instance)]
        # Xinference titles a model process `Model: <uid>`; there is one replica.
        model = [info for process, info in found if " ".join(process.cmdline()).startswith("Model: ")]
        if len(model) != 1:
            sys.exit(f"{self.name}: {len(model)} model processes instead of one")
        return Memory(
            server=sum(info.pss for _, info in found) / MIB, model=model[0].pss / MIB, model_rss=model[0].rss / MIB
        )

    def _launcher(self, *arguments: str) -> None:
        command = [sys.executable, str(ROOT / "launch_model_server.py"), *arguments]
        done = subprocess.run(command, check=False, env=self.environment)
        if done.returncode not in (0, 1, 3):
            sys.exit(f"launch_model_server.py {' '.join(arguments)} ended with code {done.returncode}")


def roof() -> dict[str, Any]:
    """What the processor could do at most: the output of `bench_roof.py --json`."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bench_roof.py"), "--json"], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
