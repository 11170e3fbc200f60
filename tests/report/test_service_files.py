"""Units and crontab: as written down in `tests/golden`, and accepted by systemd where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slo.errors import ConfigError
from slo.report.service_files import Installation, cron_lines, systemd_units
from tests.real_servers import run

GOLDEN = Path(__file__).parents[1] / "golden"
AT = Installation(
    folder=Path("/opt/xinference-slo"), python=Path("/opt/xinference-slo/.venv/bin/python"),
    slo=Path("/opt/xinference-slo/.venv/bin/slo"), config=Path("/opt/xinference-slo/configs/slo.yaml"), user="slo",
)  # fmt: skip


@pytest.mark.parametrize("name", ["slo-server.service", "slo-watch.service", "slo-check.service", "slo-check.timer"])
def test_a_unit_is_as_written_down(name: str) -> None:
    assert systemd_units(AT)[name] == (GOLDEN / "systemd" / name).read_text(encoding="utf-8")


def test_the_crontab_is_as_written_down() -> None:
    assert cron_lines(AT) == (GOLDEN / "slo.cron").read_text(encoding="utf-8")


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    here = Installation(folder=tmp_path, python=Path("/bin/true"), slo=Path("/bin/true"), config=tmp_path, user="root")
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
        Installation(folder=Path(folder), python=AT.python, slo=AT.slo, config=AT.config, user="slo")
