import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from slo.watch.alerting.cause import Cause
from slo.watch.alerting.message import Circumstances, compose
from slo.watch.alerting.notification import Notification
from slo.watch.alerting.rules import ALERTS
from slo.watch.alerting.runbook import covered, entry_url, step_for
from slo.watch.history.chronicle import Event
from tests.watch.simulated import Simulation, simulation

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook.md"
QUEUE = Cause(kind="stage", weight=0.9, text_en="stage queue: +200 ms per request", text_zh="排队阶段：+200 ms")
AROUND = Circumstances(
    model="gte-base-zh",
    endpoint="http://h:9997",
    causes=[QUEUE],
    changes=[Event(at_s=1_700_000_000, kind="change", subject="deployed v2", author="a")],
    actions=[Event(at_s=1_700_000_000, kind="action", subject="relaunch_model", text="started", author="a")],
    runbook="https://wiki/runbook.md",
    labels={"model": "gte-base-zh"},
)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Simulation]:
    with simulation(tmp_path) as simulated:
        simulated.run(120, {"good": 600})
        yield simulated


def messages(sim: Simulation, around: Circumstances = AROUND) -> list[Notification]:
    """A stall of ten minutes, and its end, as messages."""
    sim.run(10, {"good": 0, "slow": 600})
    sim.run(5, {"good": 600})
    return written(sim, around)


def written(sim: Simulation, around: Circumstances = AROUND) -> list[Notification]:
    """All that was told, as messages."""
    return [compose(found, notice, around, event_id=event_id) for found, notice, event_id in sim.heard]


def test_a_message_says_all_that_a_woken_person_asks(sim: Simulation) -> None:
    firing, resolved = messages(sim)
    for fact in ("**P95** 475 ms, between 300 ms and 500 ms", "**Burn rate**", "**Budget left**",
                 "more requests may fail today",
                 "stage queue: +200 ms", "deployed v2", "relaunch_model: started", "`slo top`", "passive"):  # fmt: skip
        assert fact in firing.text_en
    for fact in ("**P95** 475 ms", "**消耗速率**", "**剩余预算**", "排队阶段", "deployed v2", "`slo top`"):
        assert fact in firing.text_zh
    assert (firing.status, firing.severity, firing.ends_at_s) == ("firing", "critical", None)
    assert firing.title_en == "[critical] gte-base-zh firing: P95 475 ms (P95 ≤ 150 ms)"
    assert firing.title_zh == "[严重] gte-base-zh 触发：P95 475 ms（P95 ≤ 150 ms）"
    assert firing.runbook_url == "https://wiki/runbook.md#latencybudgetburn"
    assert (resolved.status, resolved.labels, resolved.group_key) == ("resolved", firing.labels, firing.group_key)
    assert resolved.ends_at_s is not None
    assert "**Next**" not in resolved.text_en


def test_labels_hold_no_value_that_changes(sim: Simulation) -> None:
    firing, resolved = messages(sim)
    assert firing.labels == {
        "alertname": "LatencyBudgetBurn", "severity": "critical", "slo": "latency", "model": "gte-base-zh",
    }  # fmt: skip
    assert firing.starts_at_s == resolved.starts_at_s
    assert firing.event_id != resolved.event_id


def test_without_a_suspect_it_says_so(sim: Simulation) -> None:
    (firing, _) = messages(sim, Circumstances(model="m", endpoint="http://h"))
    assert "not found; the figures show nothing unusual" in firing.text_en
    assert "nothing known" in firing.text_en
    assert firing.runbook_url == ""


def test_a_service_that_fails_has_no_finite_p95(sim: Simulation) -> None:
    sim.run(3, {"good": 0, "failed": 600})
    assert "∞ (failed)" in written(sim)[0].text_en


def test_no_data_is_told_in_its_own_words(sim: Simulation) -> None:
    sim.run(10, {})
    assert written(sim)[0].title_en == "[page] gte-base-zh firing: nothing is measured"
    assert "`make status`" in written(sim)[0].text_en


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_first_step_and_an_entry_in_the_runbook(alert: str) -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {alert}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    for part in ("**摘要**", "**Meaning**", "**Impact**", "**First look**", "**Fix**", "**Escalate**"):
        assert part in section
    assert alert in covered()
    assert step_for(alert, None, "en")[1]


def test_a_known_cause_has_its_own_first_step() -> None:
    assert step_for("LatencyBudgetBurn", "down", "zh") == ("启动服务（可重复执行）", "make launch")
    assert step_for("LatencyBudgetBurn", "stage", "en")[1] == "slo top"


def test_links_point_at_the_heading() -> None:
    assert entry_url("docs/runbook.md", "NoData") == "docs/runbook.md#nodata"
