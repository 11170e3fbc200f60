"""What the forked processes of `test_forkserver` do; the first argument says which."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path


def tell(**more: object) -> None:
    """Who this process is, on stdout."""
    known = {"pid": os.getpid(), "parent": os.getppid(), "main": __name__, "argv": sys.argv[1:]}
    print(json.dumps(known | more))


def tell_all() -> None:
    """Everything that a copy could have got wrong."""
    tell(
        cwd=str(Path.cwd()),
        value=os.environ.get("XINFERENCE_MODEL_UID"),
        forked="slo.deploy.forkserver" in sys.modules,
        random=random.random(),
        sid=os.getsid(0),
        group=os.getpgrp(),
        fds=sorted(path.name for path in Path("/proc/self/fd").iterdir()),
        omp=os.environ.get("OMP_NUM_THREADS"),
        sigint=getattr(signal.getsignal(signal.SIGINT), "__qualname__", ""),
        blocked=len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        threads=threading.active_count(),
    )


if __name__ == "__main__":
    match sys.argv[1]:
        case "exit":
            sys.exit(int(sys.argv[2]))
        case "raise":
            raise RuntimeError("on purpose")
        case "tell":
            tell_all()
        case "term":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))
            tell()
            time.sleep(60)
        case "title":
            import setproctitle

            setproctitle.setproctitle("a title")
            tell(shown=Path("/proc/self/cmdline").read_text(encoding="utf-8").rstrip("\0"))
        case "sleep":
            time.sleep(60)
