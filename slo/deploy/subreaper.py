"""Whose children do orphans become? A process that is a subreaper adopts those of all processes below it (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

from slo.tied import PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER, prctl

_LOCK = threading.RLock()  # the flag is the process's: who changes it for a while must put back what was there


def set_adopting(adopts: bool) -> None:
    """Adopt orphans from now on, or leave them to others. Raises OSError where that cannot be had."""
    prctl(PR_SET_CHILD_SUBREAPER, int(adopts))


@contextlib.contextmanager
def adopting(adopts: bool) -> Iterator[None]:
    """As `set_adopting`, as long as this lasts."""
    before = ctypes.c_int()
    with _LOCK:
        prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
        set_adopting(adopts)
        try:
            yield
        finally:
            set_adopting(bool(before.value))
