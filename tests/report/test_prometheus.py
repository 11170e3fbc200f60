"""The exported rules, judged by the real promtool: they load, their own tests pass, and those tests can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from slo.errors import ConfigError
from slo.report.prometheus import alertmanager_file, rules_file
from slo.report.prometheus_tests import tests_file as unit_tests_file
from slo.report.promise import BurnWindow, Promise, literal, promql_window
from tests.real_servers import program, run
from tests.report.promises import AVAILABLE, P95, P99

RUNBOOK = "https://runbook.example/"


def written(folder: Path, *promises: Promise) -> None:
    (folder / "r.yml").write_text(rules_file(promises, runbook=RUNBOOK), encoding="utf-8")
    tests = unit_tests_file(promises, rules="r.yml", runbook=RUNBOOK)
    (folder / "t.yml").write_text(tests, encoding="utf-8")


@pytest.mark.parametrize("promise", [P95, P99, AVAILABLE], ids=lambda p: p.id)
def test_promtool_accepts_the_rules_and_their_tests(promise: Promise, tmp_path: Path) -> None:
    written(tmp_path, promise)
    checked = run(program("promtool"), "check", "rules", "r.yml", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout
    tested = run(program("promtool"), "test", "rules", "t.yml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"(8 * 0.05)": "(16 * 0.05)"}, id="a threshold doubled"),
        pytest.param({'le="0.15"': 'le="0.3"'}, id="another edge"),
        pytest.param({'length_class!="batch",': ""}, id="batch requests counted"),
        pytest.param({">= 5)": ">= 0)", ">= 20)": ">= 0)"}, id="no guard against low traffic"),
        pytest.param({"severity: critical": "severity: info"}, id="another severity"),
        pytest.param({" > 180": " > 1800"}, id="a patient watch of the watcher"),
    ],
)
def test_the_tests_notice_a_changed_rule(changes: dict[str, str], tmp_path: Path) -> None:
    written(tmp_path, replace(P95, windows=P95.windows[:3]))
    text = (tmp_path / "r.yml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "r.yml").write_text(text, encoding="utf-8")
    assert run(program("promtool"), "test", "rules", "t.yml", folder=tmp_path).returncode != 0


def test_names_are_sloths() -> None:
    data = yaml.safe_load(rules_file([P95], runbook=RUNBOOK))
    assert [group["name"] for group in data["groups"]] == [
        "sloth-slo-sli-recordings-gte-base-zh-latency",
        "sloth-slo-meta-recordings-gte-base-zh-latency",
        "sloth-slo-alerts-gte-base-zh-latency",
        "slo-watch",
    ]
    records = [rule["record"] for group in data["groups"][:2] for rule in group["rules"]]
    assert records == [
        "slo:sli_error:ratio_rate1m", "slo:sli_error:ratio_rate2m", "slo:sli_error:ratio_rate5m",
        "slo:sli_error:ratio_rate30m",
        "slo:sli_error:ratio_rate6h", "slo:sli_error:ratio_rate3d", "slo:sli_good:rate5m", "slo:sli_total:rate5m",
        "slo:sli_error:ratio_rate30d", "slo:objective:ratio", "slo:error_budget:ratio", "slo:time_period:days",
        "slo:current_burn_rate:ratio", "slo:period_burn_rate:ratio", "slo:period_error_budget_remaining:ratio",
        "sloth_slo_info",
    ]  # fmt: skip
    alerts = data["groups"][2]["rules"]
    assert [rule["labels"]["sloth_severity"] for rule in alerts] == ["page", "page", "ticket"]


def test_no_number_shows_a_float_artefact() -> None:
    assert "0000000000" not in rules_file([P95, P99, AVAILABLE], runbook=RUNBOOK)


def test_rows_that_can_never_fire_are_left_out() -> None:
    impossible = BurnWindow(severity="critical", long_s=3600, short_s=300, factor=20)
    promise = replace(P95, windows=(impossible, P95.windows[2]))
    alerts = yaml.safe_load(rules_file([promise], runbook=RUNBOOK))["groups"][2]["rules"]
    assert [rule["labels"]["severity"] for rule in alerts] == ["page"]


def test_any_threshold_has_the_label_that_the_server_writes() -> None:
    assert 'le="0.1234567"' in replace(P95, threshold_s=0.1234567).good


def test_a_model_that_would_break_out_of_its_query_is_refused() -> None:
    with pytest.raises(ConfigError):
        replace(P95, model='x"} or vector(1)')


@pytest.mark.parametrize(("seconds", "text"), [(15, "15s"), (90, "90s"), (300, "5m"), (7200, "2h"), (259200, "3d")])
def test_windows_are_written_in_whole_units(seconds: int, text: str) -> None:
    assert promql_window(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.05, "0.05"), (1 - 0.95, "0.05"), (8, "8"), (14.4, "14.4"), (0, "0")])
def test_numbers_are_written_as_people_write_them(value: float, text: str) -> None:
    assert literal(value) == text


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
