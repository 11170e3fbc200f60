"""What the watcher costs, measured on a real one."""

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.stub_server import StubServer

ROOT = Path(__file__).parents[2]
MOST_KB = 60 * 1024
ROUNDS_SEEN = 6


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_watcher_stays_below_60_mb_and_one_percent_of_a_core(tmp_path: Path) -> None:
    with StubServer() as server:
        child = subprocess.Popen(
            [sys.executable, "-m", "slo", "watch", "--endpoint", server.endpoint, "--model", "m", "--interval", "1s"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert child.stdout is not None
            child.stdout.readline()  # the first round includes the start
            before_s = cpu_s(child.pid)
            for _ in range(ROUNDS_SEEN):
                assert child.stdout.readline()
            time.sleep(0.5)
            used_s = cpu_s(child.pid) - before_s
            status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
            modules = Path(f"/proc/{child.pid}/maps").read_text(encoding="utf-8", errors="replace")
        finally:
            child.terminate()
            child.communicate(timeout=60)
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak_kb <= MOST_KB
    assert "numpy" not in modules
    # A round a minute: 60 probes, the engine, the disk.
    assert used_s / ROUNDS_SEEN <= 0.01 * 60
