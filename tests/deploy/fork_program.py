"""A main process with a fork server for tests: what `slo.deploy.entry` does, without Xinference's seven seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

from slo.deploy import forkserver
from slo.deploy.forkclient import ForkClient, popen_of


def main() -> None:
    """Start what each line of stdin asks for, and tell how it went, one JSON object per line."""
    if "thread" in sys.argv:
        threading.Thread(target=threading.Event().wait, daemon=True, name="busy").start()
    opened = forkserver.open_server()
    if isinstance(opened, forkserver.Task):
        return forkserver.run(opened)
    print(json.dumps({"pid": os.getpid(), "server": opened.pid if opened else 0}), flush=True)
    if opened is None:
        return None
    running: dict[int, subprocess.Popen[Any]] = {}
    opened._spare = ("-m", "slo.deploy.forkspare", "--bare")
    opened.watch()
    for line in sys.stdin:
        print(json.dumps(_obey(json.loads(line), opened, running)), flush=True)
    return None


def _obey(order: dict[str, Any], client: ForkClient, running: dict[int, subprocess.Popen[Any]]) -> dict[str, Any]:
    match order["do"]:
        case "start":
            process = popen_of(client)(
                [sys.executable, "-u", order["script"], *order["arguments"]],
                env=os.environ | order.get("env", {}),
                cwd=order.get("cwd"),
                stdout=subprocess.PIPE if order.get("pipe") else None,
                text=True,
            )
            running[process.pid] = process
            return {"pid": process.pid}
        case "wait":
            output, _ = running[order["pid"]].communicate(timeout=30)
            return {"code": running[order["pid"]].returncode, "output": output}
        case "server":
            return {"server": client.pid if client._open else 0}
        case "burst":
            answers: list[int] = []
            popen = popen_of(client)

            def one(number: int) -> None:
                command = [sys.executable, "-u", order["script"], "exit", str(number)]
                answers.append(popen(command).wait(timeout=30))

            threads = [threading.Thread(target=one, args=(number,)) for number in range(order["count"])]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return {"codes": sorted(answers)}
        case _:
            raise ValueError(order["do"])


if __name__ == "__main__":
    main()
