"""A log that somebody moved is reopened, one that has grown is rotated, and what is written meanwhile is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from slo.deploy.entry import KEPT, LogFile, create_admin


class Log:
    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.path = folder / "server.log"
        self.fds = [os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(2)]
        self.file = LogFile(self.path, most_bytes, (self.fds[0], self.fds[1]))

    def write(self, text: str) -> None:
        for fd in self.fds:
            os.write(fd, text.encode())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path, 4000)
    yield made
    for fd in made.fds:
        os.close(fd)


def test_nothing_is_done_where_nothing_is_due(log: Log) -> None:
    log.write("a")
    assert not log.file.tend()
    assert log.path.read_text() == "aa"


@pytest.mark.parametrize("then", ["nothing", "recreated"])
def test_a_log_that_was_moved_is_reopened(log: Log, then: str) -> None:
    log.write("before")
    log.path.rename(log.path.with_name("moved"))
    if then == "recreated":
        log.path.write_text("new:")
    assert log.file.tend()
    log.write("after")
    assert log.path.with_name("moved").read_text() == "beforebefore"
    assert log.path.read_text() == ("new:" if then == "recreated" else "") + "afterafter"
    assert not log.file.tend()


def test_a_log_that_was_emptied_is_written_from_its_start(log: Log) -> None:
    log.write("x" * 500)
    os.truncate(log.path, 0)
    assert not log.file.tend()
    log.write("y")
    assert log.path.read_text() == "yy"


def test_log_and_predecessors_never_exceed_the_bound_and_the_youngest_are_kept(log: Log) -> None:
    for number in range(200):
        log.write(f"{number:05} {'x' * 44}\n")
        log.file.tend()
        assert sum(file.stat().st_size for file in log.path.parent.iterdir()) <= 4000 + 4 * 102
    names = sorted(file.name for file in log.path.parent.iterdir())
    assert names == ["server.log", *(f"server.log.{number}" for number in range(1, KEPT + 1))]
    whole = "".join(log.path.with_name(name).read_text() for name in [*reversed(names[1:]), names[0]])
    numbers = [int(line.split()[0]) for line in whole.splitlines()]
    assert numbers[-1] == 199
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(numbers) // 2 == numbers[-1] - numbers[0] + 1, "no line is lost in between"


def test_a_place_where_nothing_can_be_written_keeps_the_old_file(log: Log) -> None:
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(OSError, match="directory"):
        log.file.tend()
    log.write("still open")


def test_the_database_of_accounts_is_out_of_other_peoples_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "xinference" / "auth"
    folder.mkdir(parents=True, mode=0o755)
    monkeypatch.setattr("xinference.constants.XINFERENCE_AUTH_DB_PATH", str(folder / "auth.db"))
    account = tmp_path / "admin.json"
    account.write_text(json.dumps({"username": "slo-admin", "password": "long enough 1"}), encoding="utf-8")
    create_admin(account)
    assert (folder / "auth.db").is_file()
    assert folder.stat().st_mode & 0o777 == 0o700
