import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from slo.watch.alerting.diagnosis import Cause, covered, entry_url, step_for
from slo.watch.alerting.grouping import Notice
from slo.watch.alerting.message import Circumstances, compose
from slo.watch.alerting.round import Round
from slo.watch.alerting.rules import ALERTS
from slo.watch.alerting.symptoms import Worst, worst_of
from slo.watch.alerting.words import ALERTS_ZH
from slo.watch.delivery.channels import damaged
from slo.watch.delivery.digest import merge
from slo.watch.drill import test_message as rehearsed
from slo.watch.history.event_log import HistoryEvent
from slo.watch.model.notification import Notification
from tests.watch.simulated import Simulation, simulation

DOCS = Path(__file__).parents[3] / "docs"
ASIDE = Path(".slo/outbox.db.damaged-20261128T020000Z")
GOLDEN = Path(__file__).parents[2] / "golden" / "messages.txt"
DOWN = Cause(kind="down", weight=1.0, text_en="nobody answers at the address", text_zh="服务无法连接")
QUEUE = Cause(kind="stage", weight=0.9, text_en="stage queue: +200 ms per request", text_zh="排队阶段：+200 ms")
AROUND = Circumstances(
    model="gte-base-zh",
    endpoint="http://h:9997",
    causes=[QUEUE],
    changes=[HistoryEvent(at_s=1_700_000_000, kind="change", subject="deployed v2", author="a")],
    actions=[HistoryEvent(at_s=1_700_000_000, kind="action", subject="relaunch_model", text="started", author="a")],
    runbook="http://gpu-1:9997/slo/runbook",
    labels={"model": "gte-base-zh", "instance": "gpu-1:9997"},
    instance="gpu-1:9997",
    page="http://gpu-1:9997/slo/",
    zone=ZoneInfo("Asia/Shanghai"),
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
    return [
        compose(found, notice, replace(around, worst=worst(sim, found, notice)), event_id=event_id)
        for found, notice, event_id in sim.heard
    ]


def worst(sim: Simulation, found: Round, notice: Notice) -> Worst:
    return worst_of(
        sim.engine.history.latencies, start_s=notice.started_s - 60, end_s=found.slot_s + 60, interval_s=60,
        window_s=300, quantile=0.95,
    )  # fmt: skip


def test_a_message_says_all_that_a_woken_person_asks(sim: Simulation) -> None:
    firing, resolved = messages(sim)
    for fact in ("**Users feel** P95 475 ms > 150 ms", "**Since** 15 Nov 08:16 (UTC+8)",
                 "**P95** 475 ms (300 ms – 500 ms)",
                 "burn 20× over 2m and 20× over 1m, from 16× on", "**Budget left**", "more requests may fail today",
                 "stage queue: +200 ms", "deployed v2", "relaunch_model: started", "`slo top`", "users 3000",
                 "[Runbook](http://gpu-1:9997/slo/runbook?lang=en#latencybudgetburn)"):  # fmt: skip
        assert fact in firing.text_en
    for fact in ("**现象** P95 475 ms > 150 ms", "**开始于** 11月15日 08:16（UTC+8）",
                 "2 分钟内 20×、1 分钟内 20×，阈值 16×",
                 "**错误预算** 30 天，剩余 67 %", "按此速率 1 天后用尽", "排队阶段",
                 "「deployed v2」", "重新加载模型：已开始", "`slo top`",
                 "[处置手册](http://gpu-1:9997/slo/runbook?lang=zh#latencybudgetburn)"):  # fmt: skip
        assert fact in firing.text_zh
    assert (firing.status, firing.severity, firing.ends_at_s) == ("firing", "critical", None)
    assert firing.title_en == "[critical] gte-base-zh P95 475 ms > 150 ms · gpu-1:9997"
    assert firing.title_zh == "[严重] gte-base-zh P95 475 ms > 150 ms · gpu-1:9997"
    assert firing.runbook_url == "http://gpu-1:9997/slo/runbook?lang=zh#latencybudgetburn"
    assert (resolved.status, resolved.labels, resolved.group_key) == ("resolved", firing.labels, firing.group_key)
    assert resolved.ends_at_s is not None
    assert "**Next**" not in resolved.text_en


def test_the_all_clear_tells_of_the_incident_and_not_of_the_present(sim: Simulation) -> None:
    _, resolved = messages(sim)
    assert resolved.title_zh == "[已恢复] gte-base-zh 持续 10 分钟，最差 P95 490 ms · gpu-1:9997"
    assert resolved.title_en == "[resolved] gte-base-zh over after 10m, at worst P95 490 ms · gpu-1:9997"
    assert "**起止** 11月15日 08:16（UTC+8）至 08:26" in resolved.text_zh
    assert "严重]" not in resolved.title_zh


def test_an_outage_reads_as_one(sim: Simulation) -> None:
    sim.run(3, {"good": 0, "failed": 600})
    sim.run(5, {"good": 600})
    firing, *_, resolved = written(sim, replace(AROUND, causes=[DOWN]))
    assert firing.title_zh == "[严重] gte-base-zh 无法连接 · gpu-1:9997"
    assert firing.title_en == "[critical] gte-base-zh cannot connect · gpu-1:9997"
    assert "1 分钟内 500×" in firing.text_zh
    assert "按此速率不会用尽" not in firing.text_zh
    assert "最差时 100 % 失败" in resolved.title_zh


def test_failures_without_a_cause_are_a_share_of_the_window_that_fired(sim: Simulation) -> None:
    sim.run(3, {"good": 0, "failed": 600})
    firing = written(sim, replace(AROUND, causes=[]))[0]
    assert firing.title_zh == "[严重] gte-base-zh 2 分钟内 100 % 失败 · gpu-1:9997"
    assert "高于所有已答请求" in firing.text_zh


def test_wrong_vectors_are_told_as_such(sim: Simulation) -> None:
    sim.run(5, {"good": 300, "wrong": 300})
    assert "的向量错误" in written(sim, replace(AROUND, causes=[]))[0].title_zh


ENGLISH = re.compile(r"[A-Za-z]{2,}")
# Units, names of things, and what stands for itself: labels of this very test.
ALLOWED = frozenset("ms UTC HTTP gte-base-zh gte base zh gpu P95 P99 CPU API TLS DNS JSON".split())


def english_words(text: str) -> set[str]:
    """Words of a Chinese text that are neither code, link, quotation, nor a unit or name."""
    bare = re.sub(r"`[^`]*`|\]\([^)]*\)|「[^」]*」", " ", text)
    return {word for word in ENGLISH.findall(bare) if word not in ALLOWED}


@pytest.mark.parametrize("kind", ["slow", "failed", "wrong"])
def test_no_english_word_stands_in_a_chinese_text(sim: Simulation, kind: str) -> None:
    sim.run(40, {"good": 100, kind: 500})
    sim.run(60, {"good": 600})
    found = written(sim)
    assert {n.severity for n in found} >= {"critical"}
    for notification in found:
        assert english_words(notification.title_zh) == set()
        assert english_words(notification.text_zh) == set()


def test_every_kind_of_message_is_as_written_down(sim: Simulation, tmp_path: Path) -> None:
    """All kinds in both languages, to be read by eyes: tests/golden/messages.txt."""
    (tmp_path / "other").mkdir()
    sim.run(12, {"good": 0, "slow": 600})
    sim.run(4, {"good": 600})
    shown = written(sim)
    sim.heard.clear()
    sim.run(90, {"good": 600})
    sim.run(3, {"good": 0, "failed": 600})
    sim.run(5, {"good": 600})
    shown += written(sim, replace(AROUND, causes=[DOWN]))
    sim.heard.clear()
    sim.run(90, {"good": 600})
    sim.run(3, {"good": 0, "wrong": 600})
    sim.run(10, {})
    sim.run(60, {"good": 600})
    shown += written(sim, replace(AROUND, causes=[]))
    with simulation(tmp_path / "other") as slow:
        slow.run(120, {"good": 60})
        slow.run(40, {"good": 42, "slow": 18})  # a page, and the ticket of the plain rule
        slow.run(250, {"good": 0, "slow": 60})  # escalates, and is told again
        slow.run(20, {"good": 42, "slow": 18})  # no longer critical, and not over
        slow.run(40, {"good": 60})
        shown += written(slow)
    shown.append(
        damaged({"model": "gte-base-zh", "endpoint": "e", "instance": "gpu-1:9997"}, AROUND.runbook, ASIDE, 0.0)
    )
    digest = merge(shown, 4000, 0.0)
    assert digest is not None
    shown += [digest.notification, rehearsed("gte-base-zh", 0.0)]
    blocks = [f"{n.title_zh}\n\n{n.text_zh}\n\n{n.title_en}\n\n{n.text_en}\n" for n in shown]
    assert f"\n{'=' * 100}\n\n".join(blocks) == GOLDEN.read_text(encoding="utf-8")
    for notification in shown:
        assert english_words(notification.title_zh) == set()
        assert english_words(notification.text_zh) == set()


def test_labels_hold_no_value_that_changes(sim: Simulation) -> None:
    firing, resolved = messages(sim)
    assert firing.labels == {
        "alertname": "LatencyBudgetBurn", "severity": "critical", "slo": "latency", "model": "gte-base-zh",
        "instance": "gpu-1:9997",
    }  # fmt: skip
    assert firing.starts_at_s == resolved.starts_at_s
    assert firing.event_id != resolved.event_id


def test_without_a_suspect_it_says_so(sim: Simulation) -> None:
    (firing, _) = messages(sim, Circumstances(model="m", endpoint="http://h"))
    assert "not found; the figures show nothing unusual" in firing.text_en
    assert "nothing known" in firing.text_en
    assert firing.runbook_url == ""


def test_no_data_is_told_in_its_own_words(sim: Simulation) -> None:
    sim.run(10, {})
    (message,) = written(sim)
    assert message.title_en == "[page] gte-base-zh nothing measured for 6m · gpu-1:9997"
    assert message.title_zh == "[告警] gte-base-zh 6 分钟没有任何测量结果 · gpu-1:9997"
    assert "`make status`" in message.text_en


PARTS = {
    "runbook.md": ("**Meaning**", "**Impact**", "**First look**", "**Fix**", "**Escalate**"),
    "runbook.zh-CN.md": ("**含义**", "**影响**", "**先看**", "**处理**", "**升级**"),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_first_step_and_an_entry_in_both_runbooks(alert: str, name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {alert}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    for part in PARTS[name]:
        assert part in section
    assert alert in covered()
    assert alert in ALERTS_ZH
    assert step_for(alert, None, "en")[1]


def test_a_known_cause_has_its_own_first_step() -> None:
    assert step_for("LatencyBudgetBurn", "down", "zh") == ("启动服务（可重复执行）", "make launch")
    assert step_for("LatencyBudgetBurn", "stage", "en")[1] == "slo top"


def test_links_point_at_the_heading_in_the_readers_language() -> None:
    assert entry_url("https://wiki/runbook", "NoData") == "https://wiki/runbook#nodata"
    assert entry_url("http://h:9997/slo/runbook", "NoData", "en") == "http://h:9997/slo/runbook?lang=en#nodata"
    assert entry_url("", "NoData") == ""
