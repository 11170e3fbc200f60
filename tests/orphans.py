"""
Ends what a test run leaves behind, however that run ended.

Started as a process of its own by conftest.py, with a pipe from pytest as its input: the pipe closes when pytest ends,
killed or not, and then every process goes that carries the run's mark in its environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil

VARIABLE = "TEST_RUN_MARK"


def marked(mark: str) -> list[psutil.Process]:
    """Processes of the run, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(VARIABLE) == mark:
                found.append(process)
    return found


def start(mark: str) -> subprocess.Popen[bytes]:
    """The guard over all processes that inherit `mark`, in a session of its own: Ctrl-C is for pytest."""
    return subprocess.Popen([sys.executable, __file__, mark], stdin=subprocess.PIPE, start_new_session=True)


def main() -> None:
    """Wait for the end of the run, then end what is left."""
    sys.stdin.read()
    for _ in range(50):
        left = marked(sys.argv[1])
        if not left:
            return
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
