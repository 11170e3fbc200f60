"""`/slo/api/board` and `/slo/api/history`, asked as the page asks them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from slo.clock import ManualClock
from slo.objective import Objective
from slo.samples import Sample
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.history import Event as Happening
from slo.serve.web.remembered import MOST_POINTS, Changes, budget, episodes, step_for
from slo.serve.web.timeline import STEP_S, STEPS, Timeline, mean_s
from slo.stats import nearest_rank, percentile_interval
from slo.watch.history.event_log import HistoryEvent, write
from slo.watch.history.store import Store
from slo.watch.model.counts import minute_of
from slo.watch.model.objectives import parse_goal
from tests.serve.scene import MODEL, Scene

GOAL = parse_goal("latency", "p95 <= 150ms")


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, wall_s=1_790_000_010.0)  # at the beginning of a step


def asked(scene: Scene, path: str) -> dict[str, Any]:
    answer = TestClient(scene.app()).get(path)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    data: dict[str, Any] = answer.json()
    return data


def test_the_board_repeats_the_window_route_and_adds_the_verdict(scene: Scene) -> None:
    scene.play(300, p95_ms=118)
    window = asked(scene, "/slo/api/board")["window"]
    plain = scene.window()
    assert {key: window[key] for key in plain if key != "stages"} == {k: v for k, v in plain.items() if k != "stages"}
    assert window["verdict"] == "met"
    assert window["p95_low_ms"] < window["p95_ms"] < window["p95_high_ms"]
    assert sum(window["histogram"]["counts"]) == window["count"]
    within = window["histogram"]["edges_ms"].index(150)
    assert sum(window["histogram"]["counts"][: within + 1]) == window["good"]


@pytest.mark.parametrize(("p95_ms", "verdict"), [(90, "met"), (240, "missed"), (150, "unproven")])
def test_the_verdict_is_that_of_the_counts(scene: Scene, p95_ms: float, verdict: str) -> None:
    scene.play(20 if verdict == "unproven" else 300, p95_ms=p95_ms)
    assert asked(scene, "/slo/api/board")["window"]["verdict"] == verdict


def test_the_interval_agrees_with_the_values_themselves(scene: Scene) -> None:
    values = [0.02 + 0.0003 * i for i in range(400)]
    for value in values:
        scene.telemetry.request(MODEL, "short", "2xx", cached=False, seconds=value)
    window = asked(scene, "/slo/api/board")["window"]
    low, high = percentile_interval(values, 0.95)
    for shown, exact in (("p95_ms", nearest_rank(values, 0.95)), ("p95_low_ms", low), ("p95_high_ms", high)):
        assert window[shown] == pytest.approx(exact * 1000, rel=0.02), shown


def test_the_rate_now_is_that_of_the_last_half_minute(scene: Scene) -> None:
    scene.play(120, p95_ms=100, rate=40)
    busy = asked(scene, "/slo/api/board")["window"]
    scene.play(120, p95_ms=100, rate=4)
    quiet = asked(scene, "/slo/api/board")["window"]
    assert busy["rate_now"] > 25
    assert quiet["rate_now"] < 8 < quiet["rate"]


def test_too_few_answers_bound_nothing(scene: Scene) -> None:
    scene.telemetry.request(MODEL, "short", "2xx", cached=False, seconds=0.02)
    window = asked(scene, "/slo/api/board")["window"]
    assert (window["p95_low_ms"], window["p95_high_ms"]) == (None, None)


def test_the_board_holds_no_settings_and_no_texts(scene: Scene) -> None:
    scene.play(30, p95_ms=100)
    assert "settings" not in asked(scene, "/slo/api/board")["status"]


def test_an_impossible_span_is_refused(scene: Scene) -> None:
    client = TestClient(scene.app())
    assert [client.get(f"/slo/api/history?seconds={s}").status_code for s in ("59", "x", "9999999999")] == [400] * 3


def test_history_from_memory_adds_up_to_what_was_counted(scene: Scene) -> None:
    scene.play(900, p95_ms=104, failing=0.02)
    history = asked(scene, "/slo/api/history?seconds=900")
    requests = scene.telemetry.requests.values()
    assert (history["source"], history["watched"], history["step_s"]) == ("memory", False, STEP_S)
    assert sum(point["total"] for point in history["points"]) == sum(sum(fine.bins) for fine in requests)
    good = {row["seconds"]: (row["good"], row["total"]) for row in history["attainment"]}
    assert good[3600] == good[86_400]
    assert good[300][1] < good[3600][1]
    assert history["budget"]["remaining"] == pytest.approx(1 - (1 - good[3600][0] / good[3600][1]) / 0.05)
    assert [change["kind"] for change in history["changes"]] == ["start", "launch"]


def test_history_from_the_watchers_file_while_somebody_watches(scene: Scene, tmp_path: Path) -> None:
    now_s = scene.clock.wall()
    start_s = int(now_s // 60 * 60)
    with Store(tmp_path / "history.db") as store:
        for minutes_ago in range(60, 0, -1):
            samples = slow_samples(0.19 if minutes_ago <= 10 else 0.08)
            minute = minute_of(samples, start_s=start_s - 60 * minutes_ago, source="passive", thresholds_ms=[150])
            store.record([minute], [GOAL])
        write(store, HistoryEvent(at_s=now_s - 100, kind="alert", subject="NoData", text="firing"))
        write(store, HistoryEvent(at_s=now_s - 99, kind="alert", subject="P95AboveObjective", text="pending"))
        write(store, HistoryEvent(at_s=now_s - 50, kind="change", subject="batch", text="512 → 1024"))
    history = asked(scene, "/slo/api/history?seconds=3600")
    assert (history["source"], history["watched"], history["step_s"]) == ("store", True, 60)
    assert len(history["points"]) == 60
    assert {point["total"] for point in history["points"]} == {40}
    assert [point["good"] for point in history["points"]] == [40] * 50 + [0] * 10
    assert history["points"][-1]["p95_ms"] == pytest.approx(190, abs=12)  # an estimate within its bucket
    assert history["attainment"][2] == {"seconds": 86_400, "good": 2000, "total": 2400}
    assert history["budget"]["remaining"] == pytest.approx(1 - (400 / 2400) / 0.05)
    assert history["budget"]["exhaustion_s"] == 0
    assert [(alert["state"], alert["subject"]) for alert in history["alerts"]] == [("firing", "NoData")]
    assert history["alerts"][0]["since_s"] == now_s - 100
    assert history["changes"][0]["detail"] == "batch 512 → 1024"


def test_what_the_watcher_has_not_written_yet_comes_from_memory_and_nothing_twice(scene: Scene, tmp_path: Path) -> None:
    scene.play(600, p95_ms=104)
    now_s = scene.clock.wall()
    begin_s = int(now_s // 60 * 60)
    with Store(tmp_path / "history.db") as store:
        for minutes_ago in range(9, 1, -1):
            minute = minute_of(
                slow_samples(0.08), start_s=begin_s - 60 * minutes_ago, source="passive", thresholds_ms=[150]
            )
            store.record([minute], [GOAL])
    history = asked(scene, "/slo/api/history?seconds=3600")
    written = [point for point in history["points"] if point["t_s"] < begin_s - 60]
    fresh = [point for point in history["points"] if point["t_s"] >= begin_s - 60]
    assert history["source"] == "store"
    assert {point["total"] for point in written} == {40}
    assert [point["t_s"] for point in fresh] == [begin_s - 60, begin_s]
    assert fresh[0]["total"] > 400  # twelve a second were played
    own, stored = history["attainment"][0], history["attainment"][2]
    assert own["total"] > 3000  # five minutes that the process has lived through
    assert stored == {"seconds": 86_400, "good": 320, "total": 320}


def event(at_s: float, subject: str, text: str) -> Happening:
    return Happening(at_s=at_s, subject=subject, text=text, data={})


def test_an_alert_is_one_line_from_its_beginning_to_its_end_and_what_fires_comes_last() -> None:
    told = episodes([
        event(1, "Burn", "pending"), event(2, "Burn", "firing"), event(3, "NoData", "firing"),
        event(4, "Late", "firing"), event(5, "Burn", "resolved"), event(6, "Late", "withdrawn"),
        event(7, "Burn", "firing"), event(8, "Burn", "resolved"), event(9, "Older", "resolved"),
    ])  # fmt: skip
    assert [(line["subject"], line["state"], line["since_s"], line["at_s"]) for line in told] == [
        ("Burn", "resolved", 2, 5), ("Burn", "resolved", 7, 8), ("Older", "resolved", 9, 9),
        ("NoData", "firing", 3, 3), ("Late", "firing", 4, 4),
    ]  # fmt: skip


def test_a_watcher_that_went_away_leaves_the_memory_to_speak(scene: Scene, tmp_path: Path) -> None:
    with Store(tmp_path / "history.db") as store:
        minute = minute_of(
            slow_samples(0.08), start_s=int(scene.clock.wall()) - 3600, source="probe", thresholds_ms=[150]
        )
        store.record([minute], [GOAL])
    assert asked(scene, "/slo/api/history")["watched"] is False


def test_a_broken_history_is_told_and_does_no_harm(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"not a database, although its name says so" * 100)
    history = asked(scene, "/slo/api/history")
    assert "history.db" in history["problem"]
    assert history["source"] == "memory"


def slow_samples(latency_s: float) -> list[Sample]:
    """Forty requests of one latency."""
    return [Sample(float(i), float(i), i + latency_s, "ok", "short") for i in range(40)]


def test_steps_hold_each_request_once_whenever_they_are_taken() -> None:
    clock = ManualClock(wall_s=1_000_000_007.0)
    telemetry = Telemetry(clock.monotonic)
    timeline = Timeline(telemetry, clock.wall(), 0.150)
    for number in range(100):
        telemetry.request("m", "short", "2xx" if number % 10 else "429", cached=False, seconds=0.1 + number / 1000)
        clock.advance(1.7)
        if number % 9 == 8:
            timeline.take(clock.wall())
    timeline.take(clock.wall())
    points = timeline.recall().points(clock.wall() - 3600, STEP_S)
    assert sum(point.total for point in points) == 100
    assert sum(point.refused for point in points) == 10
    assert sum(point.good for point in points) == 45
    assert timeline.recall().since_start == (45, 100)


def test_a_day_is_remembered_and_not_more() -> None:
    timeline = Timeline(Telemetry(ManualClock().monotonic), 0.0, 0.150)
    for number in range(STEPS + 10):
        timeline.take((number + 1) * STEP_S)
    assert len(timeline.recall().steps) == STEPS + 1 == 5761  # and the one under way


def test_batch_requests_and_the_clients_own_mistakes_are_left_out() -> None:
    telemetry = Telemetry(ManualClock().monotonic)
    timeline = Timeline(telemetry, 0.0, 0.150)
    for length, code in (("batch", "2xx"), ("short", "4xx"), ("short", "2xx"), ("short", "5xx")):
        telemetry.request("m", length, code, cached=False, seconds=0.01)
    assert timeline.recall().since_start == (1, 2)


@pytest.mark.parametrize("seconds", [60, 900, 3600, 21_600, 86_400, 604_800, 30 * 86_400])
def test_no_span_gives_more_points_than_can_be_seen(seconds: int) -> None:
    assert seconds / step_for(seconds, 15) <= MOST_POINTS
    assert step_for(seconds, 60) % 60 == 0


def test_budget_arithmetic() -> None:
    spent = budget((900, 1000), (950, 1000), Objective())
    assert (spent["remaining"], spent["exhaustion_s"]) == (pytest.approx(-1.0), None)
    burning = budget((990, 1000), (800, 1000), Objective())
    assert burning["burn"] == pytest.approx(4.0)
    assert burning["exhaustion_s"] == pytest.approx(0.8 * 30 * 86_400 / 4)
    assert budget((0, 0), (0, 0), Objective()) == {
        "remaining": 1.0, "burn": 0.0, "exhaustion_s": None, "period_s": None,
    }  # fmt: skip


def test_the_mean_comes_from_the_bins_within_one_percent() -> None:
    telemetry = Telemetry(ManualClock().monotonic)
    values = [0.011, 0.013, 0.02, 0.4]
    for value in values:
        telemetry.stage("infer", value)
    histograms, _ = telemetry.window.sums(60, telemetry.now())
    assert mean_s(histograms["stage", "infer"]) == pytest.approx(sum(values) / 4, rel=0.02)


def test_changes_are_noted_once(scene: Scene) -> None:
    changes = Changes(0.0)
    for second in range(3):
        changes.look([scene.lane], float(second))
    scene.lane.generation = 2
    changes.look([scene.lane], 5.0)
    scene.lane.replicas = scene.lane.replicas[:1]
    changes.look([scene.lane], 6.0)
    assert [(change.kind, change.at_s) for change in changes.seen] == [
        ("start", 0.0), ("launch", 0.0), ("launch", 5.0), ("replicas", 6.0),
    ]  # fmt: skip


async def test_a_minute_of_the_open_page_costs_less_than_one_percent_of_a_core(scene: Scene) -> None:
    scene.play(3600, p95_ms=104)
    ask = Request({"type": "http", "query_string": b"seconds=900", "headers": []})
    await scene.board.board(ask)
    began_s = time.process_time()
    for _ in range(30):  # a minute of the page: the board every two seconds, history every six
        await scene.board.board(ask)
    for _ in range(10):
        scene.clock.advance(6.0)
        await scene.board.history(ask)
    assert time.process_time() - began_s < 0.01 * 60
