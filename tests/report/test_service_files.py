"""Units and crontab: as written down in `tests/golden`, and accepted by systemd where it is installed."""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from slo.errors import ConfigError
from slo.report.service_files import Installation, cron_lines, systemd_units
from tests.real_servers import run

GOLDEN = Path(__file__).parents[1] / "golden"
AT = Installation(
    folder=Path("/opt/xinference-slo"), slo=Path("/opt/xinference-slo/.venv/bin/slo"),
    config=Path("/opt/xinference-slo/configs/slo.yaml"), user="slo",
)  # fmt: skip


@pytest.mark.parametrize("name", ["slo-server.service", "slo-watch.service", "slo-check.service", "slo-check.timer"])
def test_a_unit_is_as_written_down(name: str) -> None:
    assert systemd_units(AT)[name] == (GOLDEN / "systemd" / name).read_text(encoding="utf-8")


def test_the_crontab_is_as_written_down() -> None:
    assert cron_lines(AT) == (GOLDEN / "slo.cron").read_text(encoding="utf-8")


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    here = Installation(folder=tmp_path, slo=Path("/bin/true"), config=tmp_path, user="root")
    for name, text in systemd_units(here).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    analyze = shutil.which("systemd-analyze")
    units = sorted(str(path) for path in tmp_path.iterdir())
    if analyze is None:  # a container need not have it; the golden files above hold what it accepted
        assert len(units) == 4
        return
    verified = run(analyze, "verify", "--man=no", *units)
    assert "Unknown" not in verified.stdout
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("folder", ["relative", "/with blank", "/with%percent", "/with'quote"])
def test_a_path_that_would_break_a_unit_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError):
        Installation(folder=Path(folder), slo=AT.slo, config=AT.config, user="slo")


def test_the_cron_line_mails_changes_alone_and_nothing_while_a_check_runs(tmp_path: Path) -> None:
    fake = tmp_path / "slo"
    fake.write_text('#!/bin/sh\ncode=$(cat verdict)\necho "verdict $code"\nexit "$code"\n', encoding="utf-8")
    fake.chmod(0o755)
    at = Installation(folder=tmp_path, slo=fake, config=tmp_path / "slo.yaml", user="slo")
    (line,) = [line for line in cron_lines(at).splitlines() if line.startswith("* * * * * ")]
    assert "%" not in line, "cron reads it as the end of the line"

    def minute(verdict: int) -> str:
        (tmp_path / "verdict").write_text(str(verdict), encoding="utf-8")
        return run("/bin/sh", "-c", line.removeprefix("* * * * * ")).stdout.strip()

    mails = [minute(verdict) for verdict in (0, 0, 1, 1, 1, 3, 0, 0)]
    assert mails == ["", "", "verdict 1", "", "", "verdict 3", "verdict 0", ""]
    with (tmp_path / ".slo" / "check.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert minute(1) == "", "the check before it still runs"
    assert minute(1) == "verdict 1"


def test_the_watcher_is_given_time_for_its_rounds() -> None:
    unit = systemd_units(replace(AT, watch_interval_s=600.0))["slo-watch.service"]
    assert "WatchdogSec=1920\n" in unit
