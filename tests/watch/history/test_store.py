import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slo.errors import StoreError
from slo.watch.history.compaction import Retention, compact, used_bytes
from slo.watch.history.schema import only_watcher
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts, Slices
from slo.watch.model.objectives import parse_goals
from tests.watch.simulated import GOALS, traffic

ROOT = Path(__file__).parents[3]
ALL = parse_goals(GOALS)
P95 = ALL[0]
DAY = 86400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def test_parts_of_a_minute_add_up_and_sources_stay_apart(path: Path) -> None:
    with Store(path) as store:
        store.record([traffic(60, good=3, slow=1)], ALL)
        store.record([traffic(60, good=2, failed=1), traffic(60, "probe", good=5)], ALL)
        assert store.counts(P95.event, 0, 120) == Counts(10, 12)
        assert store.counts_by_source(P95.event, 0, 120) == {"passive": Counts(5, 7), "probe": Counts(5, 5)}
        passive, probe = store.minutes(0, 120)
        assert (passive.source, passive.histogram.total, passive.outcomes) == ("passive", 6, {"timeout": 1})
        assert probe.total == 5
        assert [minute.source for minute in store.minutes(0, 120, sources=["probe"])] == ["probe"]


def test_a_window_begins_with_its_first_and_ends_before_its_last_second(path: Path) -> None:
    with Store(path) as store:
        store.record([traffic(start_s, good=1) for start_s in (0, 60, 120)], ALL)
        assert store.counts(P95.event, 60, 120).total == 1


def test_readers_see_what_the_writer_has_committed_and_cannot_write(path: Path) -> None:
    with Store(path) as writer:
        writer.record([traffic(0, good=1)], ALL)
        with Store(path, read_only=True) as reader:
            assert reader.counts(P95.event, 0, 60).total == 1
            writer.record([traffic(60, good=1)], ALL)
            assert reader.counts(P95.event, 0, 120).total == 2
            with pytest.raises(StoreError, match="readonly"):
                reader.put_state("x", {})


def test_a_transaction_that_fails_leaves_nothing_behind(path: Path) -> None:
    with Store(path) as store:
        with pytest.raises(RuntimeError), store.transaction():
            store.record([traffic(0, good=1)], ALL)
            raise RuntimeError
        assert store.counts(P95.event, 0, 60).total == 0
        store.record([traffic(0, good=1)], ALL)
        assert store.counts(P95.event, 0, 60).total == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(b"no database at all, but quite some text" * 200, "not a database", id="another file"),
        pytest.param(None, "no history yet", id="no file"),
    ],
)
def test_what_is_no_history_is_said_with_its_path(path: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=problem):
        Store(path, read_only=content is None)


def test_a_history_of_another_version_is_left_alone(path: Path) -> None:
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="format 99"):
        Store(path)


def test_there_is_one_watcher_at_a_time(path: Path) -> None:
    with only_watcher(path), pytest.raises(StoreError, match=f"process {os.getpid()}"), only_watcher(path):
        raise AssertionError("never reached")
    with only_watcher(path):
        pass


def filled(path: Path, *, days: int, max_bytes: int = 64 * 2**20, step_s: int = 60) -> Store:
    """A history of `days` with a minute every `step_s`, five good and one slow."""
    store = Store(path, max_bytes=max_bytes)
    with store.transaction():
        for start_s in range(0, days * DAY, step_s):
            store.record([traffic(start_s, good=5, slow=1)], ALL)
            store.record_slice(P95, start_s, Slices(good=1), maintenance=False)
    return store


def test_old_minutes_become_coarser_and_no_count_changes(path: Path) -> None:
    retention = Retention(minutes_s=6 * 3600, fives_s=DAY)
    with filled(path, days=3, step_s=300) as store:
        before = store.counts(P95.event, 0, 3 * DAY), store.slices(P95, 0, 3 * DAY), used_bytes(store)
        compact(store, 3 * DAY, retention)
        assert (store.counts(P95.event, 0, 3 * DAY), store.slices(P95, 0, 3 * DAY)) == before[:2]
        minutes = list(store.minutes(0, 3 * DAY))
        assert {minute.length_s for minute in minutes} == {60, 300, 3600}
        assert sum(minute.histogram.within(0.15) for minute in minutes) == before[0].good
        assert used_bytes(store) < before[2] * 0.7
        store.record([traffic(60, good=1)], ALL)  # a late part of a minute that is long coarse
        compact(store, 3 * DAY, retention)
        assert store.counts(P95.event, 0, 3 * DAY).total == before[0].total + 1
        assert len(list(store.minutes(0, 3600))) == 1


def test_what_is_older_than_everything_is_dropped_and_a_budgets_period_is_not(path: Path) -> None:
    with filled(path, days=3, step_s=3600) as store:
        compact(store, 40 * DAY, Retention(hours_s=DAY, period_s=38 * DAY))
        assert store.first_minute_s() == 2 * DAY


def test_the_file_stays_within_its_size(path: Path) -> None:
    cap = 2 * 2**20
    retention = Retention(period_s=2 * DAY)
    with Store(path, max_bytes=cap) as store:
        for day in range(4):
            with store.transaction():
                for start_s in range(day * DAY, (day + 1) * DAY, 60):
                    store.record([traffic(start_s, good=1), traffic(start_s, "probe", good=1)], ALL[:1])
            compact(store, (day + 1) * DAY, retention)
            assert sum(file.stat().st_size for file in path.parent.glob("history.db*")) <= cap
        assert store.counts(P95.event, 2 * DAY, 4 * DAY).total == 2 * 2 * 1440


def test_a_full_disk_is_an_error_that_names_the_cure_and_harms_nothing(path: Path) -> None:
    with filled(path, days=1, step_s=3600) as store:
        store.query("PRAGMA max_page_count = 1")  # SQLite then says what it says of a full disk
        before = store.counts(P95.event, 0, DAY)
        with pytest.raises(StoreError, match="full") as caught:
            for start_s in range(DAY, 3 * DAY, 60):
                store.record([traffic(start_s, good=1)], ALL)
        assert "max_size" in str(caught.value)
        assert store.counts(P95.event, 0, DAY) == before
        store.query("PRAGMA max_page_count = 100000")
        store.record([traffic(5 * DAY, good=1)], ALL)
        assert store.query("PRAGMA integrity_check") == [("ok",)]


WRITER = """
import sys
from pathlib import Path
from slo.watch.history.compaction import Retention, compact
from slo.watch.history.store import Store
from tests.watch.simulated import GOALS, traffic
from slo.watch.model.objectives import parse_goals
with Store(Path(sys.argv[1])) as store:
    for minute in range(10**6):
        store.record([traffic(minute * 60, good=5, slow=1)], parse_goals(GOALS))
        print(minute, flush=True)
        if minute % 50 == 49:
            compact(store, minute * 60, Retention(minutes_s=600, fives_s=1800, period_s=10**9))
"""


@pytest.mark.parametrize("pause_s", [0.05, 0.2, 0.45])
def test_a_kill_during_writes_loses_the_current_minute_at_most(path: Path, pause_s: float) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(pause_s)
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    said = [int(line) for line in rest.split("\n")[:-1]]
    committed = (said[-1] if said else 0) + 1
    with Store(path) as store:
        assert store.query("PRAGMA integrity_check") == [("ok",)]
        counted = store.counts(P95.event, 0, 10**9)
        # One minute more than was said may be there: killed between the commit and the word.
        assert counted in (Counts(5 * committed, 6 * committed), Counts(5 * committed + 5, 6 * committed + 6))
        assert sum(minute.total for minute in store.minutes(0, 10**9)) == counted.total
        store.record([traffic(10**8, good=1)], ALL)
