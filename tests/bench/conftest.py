"""The queue with a known answer, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
Start = Callable[..., str]


@pytest.fixture
def program() -> Iterator[Start]:
    """`program("batch_server.py", "--fixed", 5)` starts it and gives its endpoint; it ends with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str, *options: object) -> str:
        command = [sys.executable, str(TESTS / name), *map(str, options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return f"http://127.0.0.1:{int(process.stdout.readline())}"

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(autouse=True)
def no_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are void when a hypervisor or other processes take too much of the machine; beside these tests they may."""
    monkeypatch.setattr("slo.bench.selfcheck.machine_ticks", lambda: None)
    for module in ("collect", "selfcheck", "rederive"):
        monkeypatch.setattr(f"slo.bench.{module}.LATE_MS", 5000.0)
