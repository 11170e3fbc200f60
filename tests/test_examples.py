"""The examples do what they say, run as their first lines tell people to run them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.stub_server import Reply, StubServer

EXAMPLES = Path(__file__).parents[1] / "examples"


def slo(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        arguments, cwd=folder, env={**os.environ, "PATH": paths, **environ},
        capture_output=True, text=True, check=False, timeout=240, encoding="utf-8",
    )  # fmt: skip


@pytest.mark.parametrize(("delay_s", "code", "word"), [(0.0, 0, "OK"), (0.4, 1, "MISSED")])
def test_any_endpoint_is_checked(tmp_path: Path, delay_s: float, code: int, word: str) -> None:
    config = EXAMPLES / "watch-any-endpoint" / "slo.yaml"
    with StubServer(script=lambda _, __: Reply(delay_s=delay_s)) as server:
        done = slo("slo", "check", "--config", str(config), folder=tmp_path, SLO_SERVER_ENDPOINT=server.endpoint)
    assert (done.returncode, word in done.stdout) == (code, True), done.stdout + done.stderr


def test_a_service_of_ones_own_is_measured(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "app:app", "--fd", str(sock.fileno())]
        environ = {**os.environ, "SLO_STATE_DIR": str(tmp_path)}
        service = subprocess.Popen(
            command, cwd=EXAMPLES / "fastapi-monitor", pass_fds=[sock.fileno()], env=environ,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        sock.listen()
        try:
            url = f"http://127.0.0.1:{port}"
            assert len(requests.get(f"{url}/embed", params={"text": "你好"}, timeout=60).json()) == 32
            measured = requests.get(f"{url}/latencies", timeout=60).json()
        finally:
            service.terminate()
            service.wait(30)
    assert len(measured) == 1
    assert 0 <= measured[0] < 60_000


def test_the_gate_stops_a_server_that_has_become_slower(tmp_path: Path) -> None:
    gate, before, delay_s = str(EXAMPLES / "ci-gate" / "gate.sh"), tmp_path / "before.json", 0.0

    def run() -> subprocess.CompletedProcess[str]:
        with StubServer(script=lambda _, __: Reply(delay_s=delay_s)) as server:
            return slo(
                gate, server.endpoint, "stub", str(before), folder=tmp_path, DURATION="5s", SLO_STATE_DIR="state"
            )

    first = run()
    assert (first.returncode, before.is_file()) == (0, True), first.stderr
    delay_s = 0.1
    slower = run()
    assert slower.returncode == 1, slower.stdout + slower.stderr
