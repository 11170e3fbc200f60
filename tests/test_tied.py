"""A program that ends with the process that started it, on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from slo.tied import tied_command
from tests.real_servers import until

PARENT = """
import subprocess, sys
from slo.tied import tied_command
child = subprocess.Popen(tied_command("tests.wait_for_ever"), stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def test_it_is_run_as_python_would_run_it() -> None:
    done = subprocess.run(tied_command("json.tool", "--help"), capture_output=True, text=True, check=True)
    assert "json.tool" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_it_ends_with_whoever_started_it(number: signal.Signals) -> None:
    root = Path(__file__).parent.parent
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(number)
        parent.wait()
        until("it has ended", lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 60)


def test_it_does_not_begin_where_that_one_is_gone_already() -> None:
    command = tied_command("json.tool", "--help")
    assert command[3] == str(os.getpid())
    command[3] = "1"
    assert subprocess.run(command, capture_output=True, check=False).returncode == 128 + signal.SIGKILL
