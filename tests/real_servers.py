"""
Debian's Prometheus and Alertmanager as the tests need them: on free ports, in a folder of their own, gone afterwards.

`scripts/install-test-tools.sh` installs them, and `make test` runs it. A missing program fails a test with that
sentence; it is never a reason to skip.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def program(*names: str) -> str:
    """Path of the first of `names` that is installed."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    pytest.fail(f"{names[0]} is not installed → bash scripts/install-test-tools.sh (as root, on Debian)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(*command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The finished program; its words are in `stdout`, errors included."""
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=240
    )


def get_json(url: str, **query: str) -> Any:
    text = f"{url}?{urllib.parse.urlencode(query)}" if query else url
    with urllib.request.urlopen(text, timeout=10) as response:  # noqa: S310 - a server of ours
        return json.loads(response.read())


def until(what: str, holds: Callable[[], Any], timeout_s: float = 180) -> Any:
    """What `holds()` returns, once that is true."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        found = holds()
        if found:
            return found
        time.sleep(0.2)
    pytest.fail(f"{what}: not within {timeout_s:g} s")


@contextmanager
def prometheus(folder: Path, config: str) -> Iterator[str]:
    """A Prometheus with `config`; its address."""
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    port = free_port()
    command = [
        program("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with _running(command, folder / "prometheus.log", f"http://127.0.0.1:{port}/-/ready"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    """An Alertmanager with `config`; its address."""
    (folder / "alertmanager.yml").write_text(config, encoding="utf-8")
    port = free_port()
    command = [
        program("alertmanager", "prometheus-alertmanager"), f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'am'}", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        "--log.level=warn",
    ]  # fmt: skip
    with _running(command, folder / "alertmanager.log", f"http://127.0.0.1:{port}/-/ready"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(f"{command[0]} answers", lambda: _answers(process, ready, log), timeout_s=120)
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def _answers(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    if process.poll() is not None:
        pytest.fail(f"{process.args!r} ended:\n{log.read_text(errors='replace')}")
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - a server of ours
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
