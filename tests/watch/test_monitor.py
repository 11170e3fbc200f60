import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import slo
from slo.clock import ManualClock
from slo.errors import RequestTimeout
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts
from slo.watch.model.objectives import parse_goals
from slo.watch.monitor import LATENCY, Recorder, monitor
from tests.watch.simulated import GOALS

ROOT = Path(__file__).parents[3]
ALL = parse_goals(GOALS)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_s=1_700_000_040.0)


@pytest.fixture
def recorder(tmp_path: Path, clock: ManualClock) -> Recorder:
    return Recorder(tmp_path / "history.db", ALL, clock=clock)


def stored(tmp_path: Path) -> Counts:
    with Store(tmp_path / "history.db", read_only=True) as store:
        return store.counts(ALL[0].event, 0, 2e9)


def test_recent_values_come_back_in_order_and_old_ones_do_not(recorder: Recorder, clock: ManualClock) -> None:
    for value in (10.0, 20.0, 30.0):
        recorder.record(LATENCY, value)
        clock.advance(200)
    assert recorder.recent(LATENCY, "5m") == [30.0]
    assert recorder.recent(LATENCY, "10m") == [10.0, 20.0, 30.0]
    assert recorder.recent("anything", "5m") == []
    clock.advance(4000)
    assert recorder.recent(LATENCY, "30d") == []


def test_whole_minutes_go_to_the_history_under_the_same_objective(
    recorder: Recorder, clock: ManualClock, tmp_path: Path
) -> None:
    for value in (20.0, 150.0, 151.0):
        recorder.record(LATENCY, value)
    recorder.record(LATENCY, 5.0, outcome="error")
    recorder.record("request_count", 1)
    clock.advance(60)
    recorder.record(LATENCY, 20.0)
    assert stored(tmp_path) == Counts(2, 4)
    recorder.flush()
    assert stored(tmp_path) == Counts(3, 5)


def test_a_history_that_cannot_be_written_waits_and_breaks_nothing(
    clock: ManualClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the directory belongs", encoding="utf-8")
    recorder = Recorder(blocked / "history.db", ALL, clock=clock)
    for _ in range(5):
        recorder.record(LATENCY, 20.0)
        clock.advance(60)
    assert len(caplog.records) == 1
    blocked.unlink()
    recorder.flush()
    with Store(blocked / "history.db", read_only=True) as store:
        assert store.counts(ALL[0].event, 0, 2e9) == Counts(5, 5)


def test_threads_lose_nothing(recorder: Recorder, tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(200):
            recorder.record(LATENCY, 20.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.flush()
    assert len(recorder.recent(LATENCY, "5m")) == 800
    assert stored(tmp_path) == Counts(800, 800)


def test_a_monitored_function_is_itself_and_is_timed(recorder: Recorder) -> None:
    @monitor(recorder=recorder)
    def double(value: int) -> int:
        """Twice."""
        return 2 * value

    assert (double(4), double.__doc__) == (8, "Twice.")
    assert len(recorder.recent(LATENCY, "5m")) == 1


def test_a_monitored_coroutine_is_timed_until_it_ends(recorder: Recorder) -> None:
    @monitor(recorder=recorder)
    async def answer() -> str:
        await asyncio.sleep(0.02)
        return "yes"

    assert asyncio.run(answer()) == "yes"
    assert recorder.recent(LATENCY, "5m")[0] >= 19


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(RequestTimeout("late", url="x"), "timeout"), (ValueError("x"), "error")],
    ids=["one of ours", "any other"],
)
def test_a_call_that_raises_is_a_bad_request_and_still_raises(
    recorder: Recorder, tmp_path: Path, error: Exception, outcome: str
) -> None:
    @monitor(recorder=recorder)
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        fail()
    recorder.flush()
    assert stored(tmp_path) == Counts(0, 1)
    with Store(tmp_path / "history.db", read_only=True) as store:
        assert [minute.outcomes for minute in store.minutes(0, 2e9)] == [{outcome: 1}]


def test_the_package_offers_them_under_its_own_name(tmp_path: Path) -> None:
    code = (
        "import sys, slo; assert 'sqlite3' not in sys.modules;"
        "from slo import get_recent_metrics, monitor, record_metric;"
        "monitor(lambda: None)(); record_metric('embedding_latency_ms', 12.5);"
        "assert get_recent_metrics('embedding_latency_ms', '5m')[-1] == 12.5"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        slo.nothing  # noqa: B018
