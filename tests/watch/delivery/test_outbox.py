"""The outbox: nothing lost, nothing hurried, one broken channel silences no other."""

import itertools
import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from slo.clock import ManualClock
from slo.errors import StoreError
from slo.watch.delivery.outbox_file import SendJob
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import ChannelRoutes, RetryPolicy
from slo.watch.delivery.senders import Senders
from slo.watch.delivery.sinks.local import FileSink
from slo.watch.delivery.sinks.outcome import Delivered, Diagnosis, Failed, Limit, Outcome, Retry
from slo.watch.model.notification import Notification
from tests.watch.delivery.sinks.receiver import note
from tests.watch.fake_sink import FakeSink, outbox_in, pump_for

REFUSED = Failed(reason="no", diagnosis=Diagnosis("坏", "bad"))


def test_a_message_goes_to_every_channel_once(tmp_path: Path) -> None:
    clock, one, two = ManualClock(), FakeSink(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": one, "two": two}, clock)
    outbox.put(note("e"))
    outbox.put(note("e"))
    pump_for(outbox, clock, 5)
    assert (one.ids, two.ids) == (["e"], ["e"])
    assert outbox.next_in_s() is None
    assert outbox.undelivered() == []


def test_messages_survive_the_process(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink()
    outbox_in(tmp_path, {"one": sink}, clock).put(note("e"))
    outbox_in(tmp_path, {"one": sink}, clock).pump()
    assert sink.ids == ["e"]


def test_the_stored_message_is_the_message(tmp_path: Path) -> None:
    clock, sink, message = ManualClock(), FakeSink(), note("e", status="resolved", ends_at_s=5.0)
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(message)
    outbox.pump()
    assert sink.sent[0][1] == message


def test_half_a_character_stops_no_channel(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": sink, "file": FileSink(tmp_path / "alerts.jsonl")}, clock)
    outbox.put(note("e", title="P95 \ud83d"))
    assert all(attempt.delivered for attempt in outbox.pump())
    assert sink.sent[0][1].title_zh == "P95 ?"


def test_pauses_grow_to_a_cap_and_are_jittered(tmp_path: Path) -> None:
    clock = ManualClock()
    sink = FakeSink(lambda _: Retry(reason="down"))
    outbox = outbox_in(tmp_path, {"one": sink}, clock, policy=RetryPolicy(first_s=5, cap_s=300))
    outbox.put(note("e", severity="ticket"))
    pump_for(outbox, clock, 3600)
    times = [at for at, _ in sink.sent]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    for attempt, gap in enumerate(gaps, start=1):
        longest = min(300, 5 * 2 ** (attempt - 1))
        assert longest / 2 <= gap <= longest + 1
    assert len(set(gaps[-5:])) > 1


def test_the_providers_own_wait_is_respected(tmp_path: Path) -> None:
    clock = ManualClock()
    sink = FakeSink(lambda _: Retry(reason="later", after_s=120))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("e", severity="ticket"))
    pump_for(outbox, clock, 200)
    assert len(sink.sent) == 2
    assert sink.sent[1][0] - sink.sent[0][0] >= 120


def test_a_refusal_is_never_retried_and_goes_to_the_fallback_with_a_word_about_it(tmp_path: Path) -> None:
    clock, broken, file = ManualClock(), FakeSink(lambda _: REFUSED), FakeSink()
    routes = ChannelRoutes(channels=("robot",), fallback=("file",))
    outbox = outbox_in(tmp_path, {"robot": broken, "file": file}, clock, routes=routes)
    outbox.put(note("e"))
    pump_for(outbox, clock, 600)
    assert broken.ids == ["e"]
    assert file.ids == ["e"]
    assert "备用通道：robot 未能送达" in file.sent[0][1].text_zh
    assert outbox.undelivered() == ["robot: 1 dead since 2023-11-14T22:13:20.000Z, last: no"]
    assert outbox.totals() == {("robot", "failed"): 1, ("file", "delivered"): 1}


def test_an_urgent_message_also_goes_to_the_fallback_while_its_channel_stays_down(tmp_path: Path) -> None:
    clock, down, file = ManualClock(), FakeSink(lambda _: Retry(reason="down")), FakeSink()
    routes = ChannelRoutes(channels=("robot",), fallback=("file",))
    outbox = outbox_in(tmp_path, {"robot": down, "file": file}, clock, routes=routes, policy=RetryPolicy(first_s=5))
    outbox.put(note("page", severity="page"))
    outbox.put(note("info", severity="info", group_key="other"))
    pump_for(outbox, clock, 120)
    assert file.ids == ["page"]
    assert file.sent[0][0] - 1_700_000_000 <= 20
    down.answer = lambda _: Delivered()
    pump_for(outbox, clock, 300)
    assert {"page", "info"} <= set(down.ids)
    assert outbox.undelivered() == []


def test_what_nobody_took_is_dead_visible_and_can_be_revived(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down"))
    outbox = outbox_in(tmp_path, {"one": sink}, clock, policy=RetryPolicy(give_up_s=600))
    outbox.put(note("e"))
    pump_for(outbox, clock, 1200, step_s=5)
    assert outbox.undelivered() == ["one: 1 dead since 2023-11-14T22:13:20.000Z, last: down"]
    sink.answer = lambda _: Delivered()
    assert OutboxStore(tmp_path / "outbox.db").revive(clock.wall()) == 1
    outbox.pump()
    assert outbox.undelivered() == []


def test_a_channel_with_a_defect_silences_no_other_and_its_text_is_not_repeated(tmp_path: Path) -> None:
    def broken(_: Notification) -> Outcome:
        raise RuntimeError("secret-marker")

    clock, bad, good = ManualClock(), FakeSink(broken), FakeSink()
    outbox = outbox_in(tmp_path, {"bad": bad, "good": good}, clock)
    outbox.put(note("e"))
    attempts = outbox.pump()
    assert good.ids == ["e"]
    assert "RuntimeError" in " ".join(map(str, attempts))
    assert "secret-marker" not in repr(attempts)


def test_a_doubtful_message_is_marked_as_sent_again(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="no answer", doubtful=True))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("e"))
    outbox.pump()
    sink.answer = lambda _: Delivered()
    pump_for(outbox, clock, 60)
    assert [n.title_zh for _, n in sink.sent] == ["gte-base-zh P95 412ms", "[重发] gte-base-zh P95 412ms"]
    assert sink.ids == ["e", "e"]


def test_a_resolve_never_overtakes_its_alert(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down"))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("fire", severity="ticket"))
    outbox.pump()
    sink.answer = lambda _: Delivered()
    outbox.put(note("over", severity="ticket", status="resolved"))
    pump_for(outbox, clock, 30)
    assert sink.ids == ["fire", "fire", "over"]


def test_a_resolve_goes_wherever_its_alert_was_told(tmp_path: Path) -> None:
    clock, mail, robot = ManualClock(), FakeSink(), FakeSink()
    routes = ChannelRoutes(channels=("mail", "robot"), by_severity={"ticket": ("mail",), "critical": ("robot",)})
    outbox = outbox_in(tmp_path, {"mail": mail, "robot": robot}, clock, routes=routes)
    for message in (
        note("ticket", severity="ticket"), note("worse", severity="critical"),
        note("over", severity="critical", status="resolved"), note("next", severity="ticket"),
        note("over again", severity="ticket", status="resolved"),
    ):  # fmt: skip
        outbox.put(message)
        outbox.pump()
    assert mail.ids == ["ticket", "over", "next", "over again"]
    assert robot.ids == ["worse", "over"]


def test_a_thousand_alerts_in_a_minute_stay_within_the_limit_and_none_is_lost(tmp_path: Path) -> None:
    clock, robot = ManualClock(), FakeSink(limit=Limit())
    outbox = outbox_in(tmp_path, {"robot": robot}, clock)
    for second in range(60):
        for number in range(second * 1000 // 60, (second + 1) * 1000 // 60):
            severity = "critical" if number % 50 == 0 else "page" if number % 2 else "ticket"
            outbox.put(note(f"{number}", severity=severity, group_key=f"{number}", title=f"告警 {number}"))  # type: ignore[arg-type]
        outbox.pump()
        clock.advance(1)
    pump_for(outbox, clock, 600)
    times = [at for at, _ in robot.sent]
    assert max(sum(1 for at in times if start <= at < start + 60) for start in times) <= 20
    alone = [n for _, n in robot.sent if not n.event_id.startswith("digest-")]
    digests = [n for _, n in robot.sent if n.event_id.startswith("digest-")]
    told = len(alone) + sum(int(n.title_zh.split()[1]) for n in digests)
    assert told == 1000
    assert len(alone) == len({n.event_id for n in alone})
    listed = "\n".join(n.title_zh for n in alone) + "\n".join(n.text_zh for n in digests)
    assert all(f"告警 {number}" in listed for number in range(0, 1000, 50))
    assert outbox.next_in_s() is None


def test_critical_goes_first_out_of_a_crowd(tmp_path: Path) -> None:
    clock, robot = ManualClock(), FakeSink(limit=Limit())
    outbox = outbox_in(tmp_path, {"robot": robot}, clock)
    for number in range(200):
        severity = "critical" if number in (150, 199) else "info"
        outbox.put(note(f"{number}", severity=severity, group_key=f"{number}", title=f"告警 {number}"))  # type: ignore[arg-type]
    outbox.put(note("over", severity="ticket", status="resolved", group_key="r"))
    outbox.pump()
    assert robot.ids[:3] == ["150", "199", "over"]
    assert len(robot.sent) <= 5
    assert any(name.startswith("digest-") for name in robot.ids)


def test_the_limit_outlives_the_process(tmp_path: Path) -> None:
    clock, robot = ManualClock(), FakeSink(limit=Limit())
    for number in range(30):
        outbox = outbox_in(tmp_path, {"robot": robot}, clock)
        outbox.put(note(f"{number}", group_key=f"{number}"))
        outbox.pump()
        clock.advance(0.1)
    assert len(robot.sent) <= 6


THROTTLED = Retry(reason="130101", throttled=True, after_s=600)


def test_a_throttle_opens_the_circuit_and_has_the_fallback_told_meanwhile(tmp_path: Path) -> None:
    clock, file = ManualClock(), FakeSink()
    robot = FakeSink(lambda _: THROTTLED, limit=Limit(block_s=600))
    routes = ChannelRoutes(channels=("robot",), fallback=("file",))
    outbox = outbox_in(tmp_path, {"robot": robot, "file": file}, clock, routes=routes)
    outbox.put(note("first"))
    pump_for(outbox, clock, 5)
    assert file.ids == ["first"]  # at once, not when the circuit closes
    robot.answer = lambda _: Delivered()
    outbox.put(note("second", group_key="other"))
    outbox.put(note("first, worse"))
    pump_for(outbox, clock, 5)
    assert file.ids == ["first", "second", "first, worse"]
    assert outbox.next_in_s() == 590, "nothing to look for before the provider listens again"
    pump_for(outbox, clock, 590)
    assert robot.ids == ["first"]
    assert outbox.undelivered() == ["robot: 3 pending since 2023-11-14T22:13:20.000Z, last: channel throttled"]
    pump_for(outbox, clock, 10)
    assert robot.ids == ["first", "first", "second", "first, worse"]
    assert file.ids == ["first", "second", "first, worse"]
    assert outbox.undelivered() == []


def test_a_throttled_robot_is_still_told_where_its_fallback_had_the_message_anyway(tmp_path: Path) -> None:
    clock, file = ManualClock(), FakeSink()
    robot = FakeSink(lambda _: THROTTLED, limit=Limit(block_s=600))
    routes = ChannelRoutes(channels=("robot", "file"), fallback=("file",))
    outbox = outbox_in(tmp_path, {"robot": robot, "file": file}, clock, routes=routes)
    outbox.put(note("refused"))
    outbox.pump()
    robot.answer = lambda _: Delivered()
    outbox.put(note("waiting", group_key="other"))
    pump_for(outbox, clock, 300)
    outbox.put(note("over", status="resolved"))
    pump_for(outbox, clock, 310)
    assert robot.ids == ["refused", "waiting", "over"], "late and over: the all-clear tells of both"
    assert "现与恢复一并通知" in robot.sent[-1][1].text_zh
    assert file.ids == ["refused", "waiting", "over"]
    assert outbox.undelivered() == []


def test_two_throttled_robots_that_stand_in_for_each_other_are_both_told_in_the_end(tmp_path: Path) -> None:
    clock = ManualClock()
    robots = {name: FakeSink(lambda _: THROTTLED, limit=Limit(block_s=600)) for name in ("one", "two")}
    routes = ChannelRoutes(channels=("one",), fallback=("one", "two"))
    outbox = outbox_in(tmp_path, robots, clock, routes=routes)
    outbox.put(note("e"))
    pump_for(outbox, clock, 300)
    assert [robot.ids for robot in robots.values()] == [["e"], ["e"]]
    for robot in robots.values():
        robot.answer = lambda _: Delivered()
    pump_for(outbox, clock, 320)
    assert [robot.ids for robot in robots.values()] == [["e", "e"], ["e", "e"]]
    assert outbox.undelivered() == []


def test_the_end_of_a_throttle_is_no_storm(tmp_path: Path) -> None:
    clock, file = ManualClock(), FakeSink()
    robot = FakeSink(lambda _: THROTTLED, limit=Limit(block_s=600))
    routes = ChannelRoutes(channels=("robot", "file"), fallback=("file",))
    outbox = outbox_in(tmp_path, {"robot": robot, "file": file}, clock, routes=routes)
    for number in range(100):
        outbox.put(note(f"{number}", group_key=f"{number}", severity="page"))
        outbox.pump()
        clock.advance(2)
    for number in range(100):
        outbox.put(note(f"{number} over", group_key=f"{number}", severity="page", status="resolved"))
    robot.answer = lambda _: Delivered()
    robot.sent.clear()
    pump_for(outbox, clock, 600)
    assert len(robot.sent) <= Limit().burst, "one digest for all but the first few"
    digests = [n for _, n in robot.sent if n.event_id.startswith("digest-")]
    alone = len(robot.sent) - len(digests)
    # Late and over by then: the hundred all-clears tell of their alerts, too.
    assert alone + sum(int(n.title_zh.split()[1]) for n in digests) == 100
    assert outbox.undelivered() == []


def test_a_resolve_follows_its_alert_to_the_fallback(tmp_path: Path) -> None:
    clock, broken, file = ManualClock(), FakeSink(lambda _: REFUSED), FakeSink()
    routes = ChannelRoutes(channels=("robot",), fallback=("file",))
    outbox = outbox_in(tmp_path, {"robot": broken, "file": file}, clock, routes=routes)
    outbox.put(note("fire"))
    pump_for(outbox, clock, 5)
    broken.answer = lambda _: Delivered()
    outbox.put(note("over", status="resolved"))
    pump_for(outbox, clock, 5)
    assert file.ids == ["fire", "over"]
    assert broken.ids == ["fire"]


def test_a_throttle_without_a_fallback_waits_it_out(tmp_path: Path) -> None:
    clock = ManualClock()
    robot = FakeSink(lambda _: Retry(reason="130101", throttled=True, after_s=600), limit=Limit(block_s=600))
    outbox = outbox_in(tmp_path, {"robot": robot}, clock)
    outbox.put(note("first"))
    outbox.pump()
    robot.answer = lambda _: Delivered()
    pump_for(outbox, clock, 620)
    assert [at - 1_700_000_000 for at, _ in robot.sent] == [0, 600]


def test_what_waits_behind_a_message_that_is_tried_again_later_is_not_due_before_it(tmp_path: Path) -> None:
    """Else whoever sleeps until the next one would not sleep at all."""
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down", after_s=60))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("e-1"))
    outbox.pump()
    outbox.put(note("e-2", status="resolved", ends_at_s=clock.wall()))
    outbox.pump()
    assert len(sink.sent) == 1
    assert (outbox.next_in_s() or 0.0) > 1


def test_a_firing_alert_is_repeated_to_a_receiver_that_forgets_until_five_minutes_after_its_end(tmp_path: Path) -> None:
    clock, alertmanager = ManualClock(), FakeSink(repeat_every_s=60)
    outbox = outbox_in(tmp_path, {"am": alertmanager}, clock)
    outbox.put(note("fire"))
    pump_for(outbox, clock, 600)
    assert alertmanager.ids == ["fire"] * 10
    outbox.put(note("over", status="resolved", ends_at_s=clock.wall()))
    pump_for(outbox, clock, 1200)
    assert 5 <= alertmanager.ids.count("over") <= 6
    assert alertmanager.ids.count("fire") == 10
    assert outbox.next_in_s() is None


def test_messages_for_a_channel_that_is_no_more_go_to_the_fallback(tmp_path: Path) -> None:
    clock, file = ManualClock(), FakeSink()
    outbox_in(tmp_path, {"old": FakeSink(), "file": file}, clock, routes=ChannelRoutes(channels=("old",))).put(
        note("e")
    )
    outbox_in(tmp_path, {"file": file}, clock, fallback=("file",)).pump()
    assert file.ids == ["e"]


def test_a_stop_while_sending_waits_for_what_is_under_way_and_marks_it(tmp_path: Path) -> None:
    under_way = threading.Event()

    def interrupted(_: Notification) -> Outcome:
        under_way.wait(0.2)  # until the main thread waits for this one
        os.kill(os.getpid(), signal.SIGINT)
        under_way.wait(0.3)
        return Delivered()

    clock, sink = ManualClock(), FakeSink(interrupted)
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("e"))
    with pytest.raises(KeyboardInterrupt):
        outbox.pump()
    assert outbox.undelivered() == []
    assert outbox.pump() == []
    assert sink.ids == ["e"]


def test_what_was_sent_is_marked_even_if_there_is_no_thread_for_the_next_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Senders.start

    def scarce(senders: Senders[SendJob], channel: str, job: SendJob, send: Callable[[], Outcome]) -> None:
        if channel == "two":
            raise RuntimeError("can't start new thread")
        start(senders, channel, job, send)

    clock, one, two = ManualClock(), FakeSink(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": one, "two": two}, clock)
    outbox.put(note("e"))
    with monkeypatch.context() as machine:
        machine.setattr(Senders, "start", scarce)
        with pytest.raises(RuntimeError):
            outbox.pump()
    outbox.pump()
    assert (one.ids, two.ids) == (["e"], ["e"])
    assert outbox.undelivered() == []


def test_a_lock_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    outbox = outbox_in(tmp_path, {"one": FakeSink()}, ManualClock())
    (tmp_path / "outbox.lock").mkdir()
    with pytest.raises(StoreError, match=r"outbox\.lock: cannot be locked"):
        outbox.pump()


def test_only_one_process_sends_at_a_time(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("e"))
    with OutboxStore(tmp_path / "outbox.db").sole_sender() as mine:
        assert mine
        assert outbox.pump() == []
    assert len(outbox.pump()) == 1


def test_a_clock_that_was_far_ahead_delays_nothing_for_long(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down"))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    clock.jump_wall(86_400)
    outbox.put(note("e"))
    outbox.pump()
    clock.jump_wall(-86_400)
    sink.answer = lambda _: Delivered()
    outbox.pump()
    assert len(sink.sent) == 2


def test_without_the_disk_a_message_is_still_tried(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        other.execute("DROP TABLE deliveries")
    other.close()
    with pytest.raises(StoreError):
        outbox.put(note("e"))
    assert [attempt.outcome for attempt in outbox.send_now(note("e"))] == [Delivered()]


def test_the_outbox_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    outbox_in(tmp_path, {"one": FakeSink()}, ManualClock())
    assert (tmp_path / "outbox.db").stat().st_mode & 0o077 == 0


def test_old_messages_are_forgotten_and_waiting_ones_are_not(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("old"))
    outbox.pump()
    clock.advance(40 * 86_400)
    outbox.put(note("new"))
    outbox.pump()
    with sqlite3.connect(tmp_path / "outbox.db") as db:
        assert db.execute("SELECT event_id FROM messages").fetchall() == [("new",)]
    db.close()
