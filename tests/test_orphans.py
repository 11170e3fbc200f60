"""A test run that is killed leaves no server behind."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import psutil

from tests import orphans


def test_what_carries_the_mark_ends_when_the_run_is_killed() -> None:
    mark = uuid.uuid4().hex
    # The "run": starts a process that outlives it, as a launch does, and is killed.
    code = (
        "import subprocess, sys\n"
        "from tests import orphans\n"
        "guard = orphans.start(sys.argv[1])\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        "print(guard.pid, child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, mark],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {orphans.VARIABLE: mark},
    )  # fmt: skip
    with run:
        assert run.stdout is not None
        guard, child = (psutil.Process(int(pid)) for pid in run.stdout.readline().split())
        run.kill()
    _, alive = psutil.wait_procs([guard, child], timeout=30)
    assert alive == []
    assert orphans.marked(mark) == []
