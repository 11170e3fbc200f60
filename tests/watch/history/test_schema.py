"""A damaged history is set aside and told of, and the watch goes on; what is locked or of another version stays."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from slo.errors import StoreError
from slo.files import BUSY
from slo.watch.alerting.rules import STORE_ALERT
from slo.watch.history.event_log import add_silence, read, silences
from slo.watch.history.schema import KEPT
from slo.watch.history.store import Store
from slo.watch.model.counts import Counts
from slo.watch.model.silences import Silence, parse_matcher
from tests.watch.simulated import Simulation, traffic


def filled(path: Path, minutes: int = 600) -> None:
    """A history of ten hours."""
    with Store(path) as store:
        for minute in range(minutes):
            store.record([traffic(minute * 60, good=10)], Simulation.goals())
        add_silence(store, Silence(
            id="s", matchers=(parse_matcher("slo=latency"),), starts_s=0, ends_s=2e9, author="a", comment="c"
        ))  # fmt: skip
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def no_database(path: Path) -> None:
    path.write_bytes(b"this is no database" * 500)


def torn_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0:4096] = bytes(4096)
    path.write_bytes(content)


def garbage_in_a_table(path: Path) -> None:
    """Pages of the minutes are overwritten, those of the counts are whole."""
    with sqlite3.connect(path) as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'minutes'").fetchone()[0]
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = b"\xa5" * 4096
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 // 4096 * 4096])


@pytest.mark.parametrize("damage", [no_database, torn_header, garbage_in_a_table, cut_short])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "history.db"
    filled(path)
    damage(path)
    broken = path.read_bytes()
    with Store(path, repair=True) as store:
        assert store.set_aside is not None
        assert store.set_aside.read_bytes() == broken
        store.record([traffic(0, good=1)], Simulation.goals())
    with Store(path, repair=True) as store:
        assert store.set_aside is None, "once"


def test_what_can_be_read_of_the_budget_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    filled(path)
    garbage_in_a_table(path)
    with Store(path, repair=True) as store:
        assert store.counts("latency<=150ms", 0, 1e9) == Counts(6000, 6000)
        assert [silence.id for silence in silences(store)] == ["s"]


def test_without_being_asked_to_repair_a_damaged_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    no_database(path)
    with pytest.raises(StoreError, match="not a database") as caught:
        Store(path)
    assert "sets it aside" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_another_version_or_locked_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.db"
    filled(path, 1)
    monkeypatch.setattr("slo.watch.history.schema.BUSY_S", 0.1)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked") as caught:
            Store(path, repair=True).record([traffic(0, good=1)], Simulation.goals())
        assert caught.value.hint == BUSY
        other.execute("ROLLBACK")
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="history format 99"):
        Store(path, repair=True)
    assert not list(tmp_path.glob("*.damaged-*"))


def test_damage_in_the_middle_of_the_watch_is_an_alert_and_the_watch_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with Store(path, repair=True) as store:
        simulation = Simulation(store)
        simulation.run(30, {"good": 600})
        store.query("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xa5" * (len(content) - 4096)
        path.write_bytes(content)
        store.query("PRAGMA shrink_memory")
        rounds = [simulation.minute(good=600) for _ in range(4)]
        assert store.set_aside is not None
        assert rounds[-1].problem == ""
        assert rounds[-1].windows["latency"].total >= 600
        assert STORE_ALERT in {rule.alert for found in rounds for rule in found.firing}
        (note,) = read(store, "note", 0)
        assert "is set aside as" in note.text
        simulation.run(30, {"good": 600})
        assert not simulation.minute(good=600).firing, "told for a quarter of an hour"


def test_a_state_that_nobody_can_read_is_forgotten_and_told(tmp_path: Path) -> None:
    with Store(tmp_path / "history.db") as store:
        store.put_state("engine", {"instance": 7, "alerts": "none"})
        simulation = Simulation(store)
        found = simulation.minute(good=600)
        assert {rule.alert for rule in found.firing} == {STORE_ALERT}
        assert "alerts begin anew" in read(store, "note", 0)[0].text


def test_damaged_files_do_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    for _ in range(KEPT + 3):
        no_database(path)
        Store(path, repair=True).close()
    assert len([found for found in tmp_path.glob("*.damaged-*") if found.name[-4:] not in ("-wal", "-shm")]) == KEPT
