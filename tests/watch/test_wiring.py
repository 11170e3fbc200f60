from pathlib import Path
from typing import Any

import pytest

from slo.config import Config
from slo.errors import ConfigError
from slo.watch.budget.burn import load_tables
from slo.watch.wiring import goals_of, lint, rulebook_of, settings_of


def config(**changes: Any) -> Config:
    return Config().replaced(**changes)


def test_the_defaults_promise_three_things_and_have_nothing_to_complain_of() -> None:
    assert [str(goal) for goal in goals_of(Config())] == ["P95 ≤ 150 ms", "errors ≤ 0.2 %", "wrong ≤ 0.1 %"]
    assert lint(Config()) == []


def test_an_empty_text_turns_an_objective_off() -> None:
    assert [goal.name for goal in goals_of(config(**{"watch.objectives.correctness": ""}))] == [
        "latency",
        "availability",
    ]


def test_minutes_are_kept_as_long_as_alerts_look_back() -> None:
    settings = settings_of(config(**{"watch.store.minutes": 6 * 3600}))
    assert settings.retention.minutes_s > rulebook_of(Config()).longest_s == 3 * 86400
    assert settings.retention.period_s > 30 * 86400


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"objective": "p90 <= 1s", "watch.burn.latency": "google"}, "fires only above 80%", id="late"),
        pytest.param({"watch.interval": 600}, "shorter than watch.interval", id="window below the interval"),
        pytest.param({"watch.source.kind": "prometheus"}, "prometheus_url is not set", id="no address"),
        pytest.param({"watch.budget.period": "1h"}, "of the budget by then", id="fires when the budget is gone"),
    ],
)
def test_lint_finds_what_cannot_work(changes: dict[str, object], words: str) -> None:
    assert any(words in finding.message for finding in lint(config(**changes)))


@pytest.mark.parametrize(
    "changes",
    [{"watch.burn.latency": "nobl9"}, {"watch.budget.period": "5m"}, {"watch.objectives.availability": "few"}],
    ids=["no such table", "period too short", "no objective"],
)
def test_what_cannot_be_read_is_an_error(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        settings_of(config(**changes))


ROW = "{severity: page, long: 1h, short: 5m, factor: 6}"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param("", "tables", id="empty"),
        pytest.param("tables: {x: {period: 30d}}", "tables.x", id="no pairs"),
        pytest.param(f"tables: {{x: {{period: 30d, min_total: 1, min_bad: 1, z: 2, pairs: [{ROW}], y: 1}}}}",
                     "no such setting: y", id="unknown key"),
        pytest.param("tables: {x: {period: 30d, min_total: 1, min_bad: 1, z: 2, pairs: [{severity: red, long: 1h, "
                     "short: 5m, factor: 6}]}}", r"pairs\[0\]: severity 'red'", id="unknown severity"),
        pytest.param("tables: {x: {period: 30d, min_total: 1, min_bad: 1, z: 2, pairs: [{severity: page, long: 5m, "
                     "short: 1h, factor: 6}]}}", "short ≤ long", id="windows the wrong way round"),
        pytest.param("tables: [", "cannot be read", id="no YAML"),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong_is_refused_with_its_row(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "burn.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=where) as caught:
        load_tables(path)
    assert "burn.yaml" in str(caught.value)
