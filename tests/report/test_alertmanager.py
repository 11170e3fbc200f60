"""The exported routes, judged by the real amtool."""

from __future__ import annotations

from pathlib import Path

import pytest

from slo.report.alertmanager import alertmanager_file
from tests.real_servers import program, run


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "alertmanager.yml"
    file.write_text(alertmanager_file(urgent_url="http://u.example/x", ticket_url="http://t.example/x"))
    return file


def test_amtool_accepts_it(config: Path) -> None:
    checked = run(program("amtool"), "check-config", str(config))
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "slo-urgent"), ("page", "slo-urgent"), ("ticket", "slo-tickets"), ("info", "slo-tickets")],
)
def test_the_severity_chooses_the_receiver(config: Path, severity: str, receiver: str) -> None:
    command = ("config", "routes", "test", f"--config.file={config}", f"--verify.receivers={receiver}")
    tested = run(program("amtool"), *command, f"severity={severity}")
    assert tested.returncode == 0, tested.stdout
