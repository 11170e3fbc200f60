"""Our unit under a real systemd, as process 1 of namespaces of its own; only where root and systemd are there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from slo.report.service_files import Installation, systemd_units
from tests.real_servers import until

ROOT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
START = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd
export SYSTEMD_UNIT_PATH={units} container=test
exec {systemd} --system --unit=default.target
"""

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        os.geteuid() != 0 or not SYSTEMD.exists() or not all(map(shutil.which, ("unshare", "nsenter", "systemctl"))),
        reason="needs root and systemd",
    ),
]


def unit_for(folder: Path) -> str:
    """The generated unit, which runs a server of a few lines."""
    at = Installation(folder=folder, slo=folder, config=folder / "slo.yaml", user="root")
    text = systemd_units(at)["slo-server.service"]
    command = f"{folder} launch --foreground --config {at.config}"
    assert command in text
    ours = f"{sys.executable} -m tests.deploy.systemd_service {folder} 18999"
    return text.replace(command, ours).replace("[Service]", f"[Service]\nEnvironment=PYTHONPATH={ROOT}").replace(
        "PrivateTmp=true\n", ""
    )  # fmt: skip


@pytest.fixture
def systemctl(tmp_path: Path) -> Iterator[Callable[..., str]]:
    units = tmp_path / "units"
    units.mkdir()
    for name in ("sysinit", "basic", "shutdown", "umount", "multi-user", "network-online", "default"):
        wanted = "Wants=slo-server.service\n" if name == "default" else ""
        text = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n{wanted}"
        (units / f"{name}.target").write_text(text, encoding="utf-8")
    (units / "slo-server.service").write_text(unit_for(tmp_path), encoding="utf-8")
    script = START.format(units=units, systemd=SYSTEMD)
    outer = subprocess.Popen(
        ["unshare", "-fpmn", "--mount-proc", "--kill-child", "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    inner = until("systemd starts", lambda: next(iter(psutil.Process(outer.pid).children()), None))

    def ask(*words: str) -> str:
        command = ["nsenter", "-t", str(inner.pid), "-p", "-m", "-n", "systemctl", "--no-pager", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()

    yield ask
    inner.kill()
    outer.wait(timeout=30)
    for folder in Path("/sys/fs/cgroup").glob("*"):  # what this systemd has made there
        for name in ("system.slice", "init.scope"):
            for path in sorted((folder / name).rglob("*"), reverse=True):
                if path.is_dir():
                    _remove(path)
            _remove(folder / name)


def _remove(group: Path) -> None:
    try:
        group.rmdir()
    except OSError:
        return  # not there, or another systemd's


def test_a_killed_server_comes_back_in_its_unit_and_a_stop_leaves_nothing(
    systemctl: Callable[..., str], tmp_path: Path
) -> None:
    def active() -> bool:
        return systemctl("is-active", "slo-server.service") == "active"

    if not until("systemd answers", lambda: systemctl("is-system-running")):
        pytest.skip("systemd does not run here")
    until("the service says that it is ready", active)
    main_pid = systemctl("show", "-P", "MainPID", "slo-server.service")
    record = tmp_path / "server.json"
    first = json.loads(record.read_text(encoding="utf-8"))
    server = [process for process in psutil.process_iter() if _marked(process, first["instance"])]
    server[0].kill()
    until("another server", lambda: json.loads(record.read_text(encoding="utf-8"))["instance"] != first["instance"])
    until("told", lambda: json.loads((tmp_path / "keeper.json").read_text(encoding="utf-8"))["next_s"] is None)
    facts = json.loads((tmp_path / "keeper.json").read_text(encoding="utf-8"))
    assert (facts["unit"], facts["restarts"]) == ("slo-server.service", 1)
    assert "SIGKILL" in facts["why"]
    assert active()
    assert systemctl("show", "-P", "MainPID", "slo-server.service") == main_pid
    assert systemctl("show", "-P", "NRestarts", "slo-server.service") == "0", "systemd had nothing to do"
    second = json.loads(record.read_text(encoding="utf-8"))["instance"]
    systemctl("stop", "slo-server.service")
    assert systemctl("is-active", "slo-server.service") == "inactive"
    assert not record.exists()
    assert not [process for process in psutil.process_iter() if _marked(process, second)]


def _marked(process: psutil.Process, instance: str) -> bool:
    try:
        return process.environ().get("XINFERENCE_SLO_INSTANCE") == instance
    except psutil.Error:
        return False
