"""A damaged outbox is set aside, told of, and nothing stops: whatever is damaged, and whoever has it open."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from slo.clock import ManualClock
from slo.config import Config
from slo.errors import StoreError
from slo.watch.delivery.channels import damaged, open_outbox
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.delivery.policy import ChannelRoutes, RetryPolicy
from slo.watch.delivery.sinks.outcome import Retry
from tests.watch.delivery.sinks.receiver import note
from tests.watch.fake_sink import FakeSink, outbox_in, pump_for

LABELS = {"model": "gte-base-zh", "endpoint": "http://127.0.0.1:9997", "instance": "gpu-1:9997"}


def box(folder: Path, sink: FakeSink) -> Outbox:
    message = partial(damaged, LABELS, "http://gpu-1:9997/slo/runbook")
    return Outbox(
        OutboxStore(folder / "outbox.db"),
        {"one": sink},
        ChannelRoutes(channels=("one",)),
        clock=ManualClock(),
        damage=message,
    )


def filled(folder: Path) -> None:
    outbox = box(folder, FakeSink(lambda _: Retry(reason="down")))
    for number in range(50):
        outbox.put(note(f"e-{number}", group_key=f"{number}", text="x" * 2000))
    outbox.close()


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to look like one" * 200)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scribble(path: Path) -> None:
    """Pages in the middle, so that the file still opens."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 8192))


DAMAGES = [
    pytest.param(overwrite, id="no database"),
    pytest.param(cut_in_half, id="cut"),
    pytest.param(scribble, id="pages"),
]


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_file_is_set_aside_at_the_start_and_people_are_told(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    filled(tmp_path)
    harm(tmp_path / "outbox.db")
    sink = FakeSink()
    outbox = box(tmp_path, sink)
    outbox.put(note("after"))
    outbox.pump()
    (aside,) = [path for path in tmp_path.glob("outbox.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))]
    told = {n.event_id: n for _, n in sink.sent}
    assert set(told) == {"after", f"outbox-damaged-{aside.name}"}
    message = told[f"outbox-damaged-{aside.name}"]
    assert message.labels["alertname"] == "AlertsUndelivered"
    assert str(aside) in message.text_zh
    assert "lang=zh#alertsundelivered" in message.text_zh
    assert outbox.undelivered() == []


@pytest.mark.parametrize("harm", DAMAGES)
def test_damage_while_it_is_open_loses_no_later_message(harm: Callable[[Path], None], tmp_path: Path) -> None:
    filled(tmp_path)
    sink = FakeSink()
    watch, dispatcher = box(tmp_path, sink), box(tmp_path, sink)
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    harm(tmp_path / "outbox.db")
    watch.put(note("after"))
    for _ in range(3):
        try:
            dispatcher.pump()
        except StoreError:  # the dispatcher rests and tries again
            continue
    assert "after" in sink.ids
    watch.put(note("later", group_key="later"))
    dispatcher.pump()
    assert "later" in sink.ids


def test_a_file_that_somebody_moved_away_is_begun_anew(tmp_path: Path) -> None:
    sink = FakeSink()
    watch, dispatcher = box(tmp_path, sink), box(tmp_path, sink)
    (tmp_path / "outbox.db").rename(tmp_path / "elsewhere.db")
    watch.put(note("after"))
    dispatcher.pump()
    assert sink.ids == ["after"]


def test_a_line_that_nobody_can_read_stops_no_other(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink()
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("bad", group_key="bad"))
    outbox.put(note("good", group_key="good"))
    with sqlite3.connect(tmp_path / "outbox.db") as other:
        other.execute("UPDATE messages SET body = '{\"event_id\"' WHERE event_id = 'bad'")
    other.close()
    pump_for(outbox, clock, 3)
    assert sink.ids == ["good"]
    assert "unreadable" in " ".join(outbox.undelivered())


def test_a_locked_file_is_not_damaged(tmp_path: Path) -> None:
    outbox = outbox_in(tmp_path, {"one": FakeSink()}, ManualClock())
    with sqlite3.connect(tmp_path / "outbox.db", isolation_level=None) as other:
        other.execute("DROP TABLE totals")
    other.close()
    with pytest.raises(StoreError):
        outbox.totals()
    assert list(tmp_path.glob("outbox.db.damaged-*")) == []


def test_the_watch_opens_a_damaged_outbox(tmp_path: Path) -> None:
    overwrite(tmp_path / "outbox.db")
    with open_outbox(Config().replaced(state_dir=tmp_path), environ={}) as outbox:
        outbox.pump()
        assert outbox.undelivered() == []
    assert "发件箱损坏" in (tmp_path / "alerts.jsonl").read_text(encoding="utf-8")


def test_a_clock_that_jumps_ahead_gives_nothing_up(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down"))
    outbox = outbox_in(tmp_path, {"one": sink}, clock, policy=RetryPolicy(give_up_s=6 * 3600))
    outbox.put(note("e", severity="ticket"))
    outbox.pump()
    clock.jump_wall(40 * 86_400)
    outbox.pump()
    clock.jump_wall(-40 * 86_400)
    assert "pending" in " ".join(outbox.undelivered())


def test_an_alert_that_is_late_and_over_is_told_once(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down", after_s=30))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("fire"))
    pump_for(outbox, clock, 120)
    outbox.put(note("worse"))
    outbox.put(note("over", status="resolved"))
    outbox.put(note("other", group_key="other"))
    sink.sent.clear()
    sink.answer = FakeSink().answer
    pump_for(outbox, clock, 120)
    assert sink.ids == ["worse", "over", "other"] or set(sink.ids) == {"over", "other", "worse"}
    assert "fire" not in sink.ids
    assert "一并通知" in next(n for _, n in sink.sent if n.event_id == "over").text_zh


def test_a_late_message_says_so(tmp_path: Path) -> None:
    clock, sink = ManualClock(), FakeSink(lambda _: Retry(reason="down"))
    outbox = outbox_in(tmp_path, {"one": sink}, clock)
    outbox.put(note("fire"))
    pump_for(outbox, clock, 700)
    sink.answer = FakeSink().answer
    pump_for(outbox, clock, 300)
    assert "本消息迟到" in sink.sent[-1][1].text_zh
    assert "late: the channel was not available" in sink.sent[-1][1].text_en
