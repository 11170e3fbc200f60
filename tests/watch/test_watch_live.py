"""
The whole promise on a real Xinference: its model dies under `slo watch`; people hear of it, and of its end.

Killed once, the model may be back before a round is over, since its new process is forked with all imports done. So it
is killed whenever it serves, as one is that crashes on what it is asked, until the alert has arrived.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.real_servers import until
from tests.servers import Server, write_config
from tests.watch.delivery.sinks.receiver import Answer, Receiver

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]

ROOT = Path(__file__).parents[2]
# A month's windows, scaled to rounds of two seconds.
QUICK: dict[str, Any] = {
    "watch.interval": 2.0, "watch.window": 10.0, "watch.probes": 20, "watch.budget.period": "1h",
    "watch.notify.group_interval": 2.0, "alerts.webhook.enabled": True, "alerts.console.enabled": False,
}  # fmt: skip


@contextmanager
def watching(server: Server, folder: Path, hook: str) -> Iterator[Path]:
    """`slo watch` of the server, as a process; the file with all that it says."""
    config = write_config(server.config.replaced(**QUICK), folder / "slo.yaml")
    said = folder / "watch.txt"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "slo", "watch", "--config", str(config)],
            stdout=output, stderr=subprocess.STDOUT,
            env=os.environ | {"SLO_WEBHOOK_URL": hook, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            yield said
        finally:
            process.terminate()
            process.wait(timeout=60)


def engine_pid(server: Server) -> int | None:
    status = requests.get(f"{server.endpoint}/slo/api/status", timeout=20).json()
    pids = [replica["engine"].get("pid") for model in status["models"] for replica in model["replicas"]]
    return pids[0] if pids else None


def kill(pid: int | None) -> bool:
    """Was there such a process, and not dead already?"""
    try:
        if pid is None or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return False
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return True


def serves(server: Server) -> bool:
    body = {"model": server.model, "input": f"{time.time_ns()}"}
    return requests.post(f"{server.endpoint}/v1/embeddings", json=body, timeout=20).status_code == 200


def test_a_killed_model_is_told_comes_back_and_is_told_again(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serves(server)
    with Receiver(lambda _: Answer("")) as hook, watching(server, tmp_path, hook.url("/hook")) as said:

        def told(status: str, since: int = 0) -> bool:
            return any(request.json["status"] == status for request in hook.requests[since:])

        until("five healthy rounds", lambda: said.read_text(encoding="utf-8").count("  ok  ") >= 5)
        assert not told("firing")
        pid = engine_pid(server)
        assert pid is not None
        killed_s, kills = time.monotonic(), 0
        while not told("firing"):
            if kill(engine_pid(server)):
                kills += 1
            serves(server)
            assert time.monotonic() - killed_s < 150, said.read_text(encoding="utf-8")
        fired_s = time.monotonic() - killed_s
        until("the model serves again", lambda: serves(server), timeout_s=180)
        back_s = time.monotonic() - killed_s
        until("the all-clear arrives", lambda: told("resolved"))
        resolved_s = time.monotonic() - killed_s
        lines = said.read_text(encoding="utf-8")
    assert engine_pid(server) != pid
    assert "  ALERT critical " in lines
    assert not [line for line in lines.splitlines() if "  ok  " in line and "firing: " in line]
    started = "action relaunch_model: started" in lines
    if started:  # it must have ended well, too, beside Xinference's own recovery
        log = server.state_dir / "remediation.log"
        until("our relaunch ends", lambda: b"Model loaded" in log.read_bytes() or b"error:" in log.read_bytes())
        assert b"error:" not in log.read_bytes(), log.read_text(encoding="utf-8")
    assert serves(server)
    with capsys.disabled():
        print(
            f"\nmodel killed {kills} times → alert delivered {fired_s:.1f} s, serving again {back_s:.1f} s, "
            f"all-clear delivered {resolved_s:.1f} s; our relaunch {'took part' if started else 'was not needed'}"
        )
    assert fired_s < 120
    assert resolved_s - back_s < 120
