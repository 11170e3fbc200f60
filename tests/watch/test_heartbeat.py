from pathlib import Path

import pytest

from slo.errors import StoreError, Unreachable
from slo.watch.heartbeat import FILE, Beat, Heartbeat, metric_text, read_beat


class Pushes:
    def __init__(self) -> None:
        self.count = 0
        self.down = False

    def __call__(self) -> None:
        self.count += 1
        if self.down:
            raise Unreachable("nobody answers", url="http://dead.man")


def test_a_sign_of_life_is_read_back_by_another_process(tmp_path: Path) -> None:
    assert read_beat(tmp_path) is None
    Heartbeat(tmp_path, interval_s=60, complain=lambda _: None).beat(1000)
    beat = read_beat(tmp_path)
    assert beat is not None
    assert (beat.at_s, beat.interval_s) == (1000, 60)
    assert "4m ago" in beat.describe(1240)
    assert (tmp_path / "watcher.prom").read_text(encoding="utf-8") == metric_text(beat)


@pytest.mark.parametrize(
    ("now_s", "silent"), [(1060, False), (1180, False), (1181, True), (900, False)],
    ids=["in time", "just in time", "three rounds missed", "the clock went back"],
)  # fmt: skip
def test_three_missed_rounds_are_silence(now_s: float, silent: bool) -> None:
    assert Beat(at_s=1000, pid=1, interval_s=60).silent(now_s) is silent


def test_a_file_that_is_no_heartbeat_is_said_with_its_path(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError, match=FILE):
        read_beat(tmp_path)


def test_a_failing_push_is_told_once_per_outage_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    pushes = Pushes()
    heart = Heartbeat(tmp_path, interval_s=60, push=pushes, complain=said.append)
    for down in (False, True, True, False, True):
        pushes.down = down
        heart.beat(1000)
    assert pushes.count == 5
    assert said == ["heartbeat: nobody answers"] * 2
