"""A server whose record is lost or damaged is found by the marks of its processes: status, stop and launch know it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slo.config import Config
from slo.deploy.marks import code_digest, known_server, mark, marked_server
from slo.deploy.process import kill_instance, spawn
from slo.deploy.state import INSTANCE_VARIABLE, ServerState, processes_of, read_state, write_state
from slo.deploy.status import status, stop
from slo.errors import StoreError

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def started(state_dir: Path, *, marked: bool = True, command: list[str] = SLEEPER) -> ServerState:
    state = ServerState(
        instance=f"test-{os.getpid()}-{time.monotonic_ns()}", endpoint="http://127.0.0.1:1", log=str(state_dir / "log"),
        server={"port": 1, "serve": {"drill": False}}, metrics_port=7, launch={"config": {"中": "文"}}, code="c",
    )  # fmt: skip
    marks = mark(state) if marked else {INSTANCE_VARIABLE: state.instance}
    environment = {**os.environ, "XINFERENCE_HOME": str(state_dir / "xinference"), **marks}
    (state_dir / "log").touch()
    begun = state.started(spawn(command, environment=environment, log=state_dir / "log"))
    while not processes_of(state.instance):  # the kernel shows the environment a moment after the program's start
        assert begun.alive
        time.sleep(0.01)
    return begun


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerState]:
    state = started(tmp_path)
    yield state
    kill_instance(state.instance)


def config(state_dir: Path) -> Config:
    return Config.model_validate({"state_dir": state_dir, "server": {"log": state_dir / "log"}})


def test_a_lost_record_is_made_of_the_marks(server: ServerState, tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    assert known_server(tmp_path) == server
    found = status(config(tmp_path))
    assert (found.pid, found.processes, found.endpoint) == (server.pid, 1, server.endpoint)
    assert read_state(tmp_path) is None, "to look changes nothing"


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 1}'])
def test_a_damaged_record_too(server: ServerState, tmp_path: Path, damage: str) -> None:
    (tmp_path / "server.json").write_text(damage, encoding="utf-8")
    assert known_server(tmp_path) == server
    kill_instance(server.instance)
    with pytest.raises(StoreError):
        known_server(tmp_path)


def test_a_stop_ends_what_has_no_record(server: ServerState, tmp_path: Path) -> None:
    assert stop(config(tmp_path), say=lambda _: None) == 1
    assert processes_of(server.instance) == []
    assert known_server(tmp_path) is None


def test_the_server_of_another_state_directory_is_not_ours(server: ServerState, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert marked_server(other) is None
    assert stop(config(other), say=lambda _: None) == 0
    assert server.alive


def test_a_record_that_is_there_counts(server: ServerState, tmp_path: Path) -> None:
    write_state(tmp_path, replace(server, model={"name": "m"}))
    found = known_server(tmp_path)
    assert found is not None and found.model == {"name": "m"}


def test_a_server_of_an_earlier_version_has_less_to_tell(tmp_path: Path) -> None:
    command = [*SLEEPER, "--", "--host", "::1", "--port", "9123"]
    state = started(tmp_path, marked=False, command=command)
    try:
        found = known_server(tmp_path)
        assert found is not None
        assert (found.instance, found.pid, found.endpoint) == (state.instance, state.pid, "http://[::1]:9123")
        assert found.log == str(tmp_path / "log")
    finally:
        kill_instance(state.instance)


def test_the_digest_tells_other_code(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n", encoding="utf-8")
    first = code_digest(tmp_path)
    assert code_digest(tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n", encoding="utf-8")
    assert code_digest(tmp_path) != first
    assert code_digest() == code_digest()
