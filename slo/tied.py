"""
A program that ends with the process that started it: `python -m slo.tied PID MODULE ARGUMENTS…`.

A parent that is killed cannot end its children, and one that only waits for a pipe to break lives until it next writes:
a quantiser for minutes, at full load. So the kernel is asked to end it (Linux; elsewhere it ends when it writes). The
death signal follows the *thread* that started the child: start one from a thread that waits for it.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_NAME, PR_GET_NAME = 1, 15, 16
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


def prctl(option: int, argument: object) -> None:
    """Linux's prctl with one argument: a number, or what ctypes takes for a pointer. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    value = ctypes.c_ulong(argument) if isinstance(argument, int) else argument
    if library.prctl(option, value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def tied_command(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m module arguments…`, tied to this process."""
    return [sys.executable, "-m", "slo.tied", str(os.getpid()), module, *arguments]


def main(arguments: Sequence[str]) -> None:
    """Be the program; before it is imported, which takes seconds, its end is bound to the process `PID`."""
    parent, module, *rest = arguments
    with suppress(OSError, AttributeError):  # no Linux
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the kernel knew
        sys.exit(128 + signal.SIGKILL)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
