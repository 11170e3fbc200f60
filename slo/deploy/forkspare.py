"""
A fork server in place of one that died: `python -m slo.deploy.forkspare FD`, FD being its end of a socket pair.

It cannot be forked, since whoever needs it has threads by then; so it is started, imports what the first one had, says
when it has (`READY`), and forks on request as the first one did.

Alone: it is a program, started by name.
"""

from __future__ import annotations

import gc
import os
import socket
import sys

from slo.deploy import entry, forkserver
from slo.deploy.forkclient import READY
from slo.deploy.forkserver import company, unsafe


def main(arguments: list[str]) -> None:
    """Be a fork server; in a forked process, what that one is for."""
    parent = os.getppid()
    if "--bare" not in arguments:
        entry.preload()
    if unsafe() or company():
        return None
    control = socket.socket(fileno=int(arguments[-1]))
    os.set_inheritable(control.fileno(), False)
    gc.collect()
    gc.freeze()
    control.sendall(READY)
    return forkserver.run(forkserver.serve(control, parent))


if __name__ == "__main__":
    main(sys.argv[1:])
