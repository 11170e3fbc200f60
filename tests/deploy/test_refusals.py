"""Every bad case: one clear message, exit code 2, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from slo.cli.launch_command import launch_model_server
from slo.cli.main import run
from slo.config import Config
from slo.deploy.state import ServerState, processes_of, read_state, write_state
from tests.servers import settings, write_config

SCRIPT = Path(__file__).parents[2] / "launch_model_server.py"


@pytest.fixture
def config(tmp_path: Path, tiny_model: Path) -> Config:
    return settings(tmp_path, tiny_model)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def launch(config: Config, *options: str) -> int:
    file = write_config(config, config.state_dir.parent / "slo.yaml")
    return run(launch_model_server, ["--config", str(file), *options])


def left_behind(config: Config) -> list[str]:
    """Files of a launch, whoever made them."""
    return sorted(path.name for path in config.state_dir.parent.iterdir() if path.name != "slo.yaml")


def cut(model: Path, to: Path) -> Path:
    copy = Path(shutil.copytree(model, to))
    with (copy / "model.safetensors").open("r+b") as file:
        file.truncate(10_000)
    return copy


def test_a_port_taken_by_another_program_names_that_program(
    config: Config, listening: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(config, "--port", str(listening)) == 2
    assert f"port {listening} is taken by pid {os.getpid()}" in capsys.readouterr().err
    assert left_behind(config) == []


def test_a_model_directory_that_was_asked_for_must_exist(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch(config, "--model-path", str(tmp_path / "nowhere")) == 2
    assert f"{tmp_path / 'nowhere'}: no such model directory" in capsys.readouterr().err
    assert left_behind(config) == []


def test_truncated_weights_are_found_before_anything_starts(
    config: Config, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = cut(tiny_model, tmp_path.parent / f"{tmp_path.name}-damaged")
    assert launch(config, "--model-path", str(damaged)) == 2
    error = capsys.readouterr().err
    assert "model.safetensors: truncated: 10,000 bytes instead of" in error
    assert left_behind(config) == []


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        pytest.param("server.log", "/proc/none/model_server.log", "log: /proc/none", id="log in a place without files"),
        pytest.param("server.log", "/dev", "/dev is a folder", id="log is a folder"),
        pytest.param("server.log", "/dev/full", "No space left", id="log on a full disk"),
        pytest.param("state_dir", "/proc/none", "/proc/none: the state directory", id="state in a place without files"),
        pytest.param("state_dir", "/dev/null/state", "the state directory", id="state below a file"),
        pytest.param("server.host", "192.0.2.1", "192.0.2.1", id="address of another machine"),
        pytest.param("server.replicas", 64, "memory: not enough", id="not enough memory"),
        pytest.param("model.stand_in", "off", "stand_in is off", id="no model and no stand-in"),
    ],
)
def test_a_machine_that_cannot_do_it_is_told_why(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, value: object, words: str
) -> None:
    changes: dict[str, object] = {setting: value}
    if setting == "model.stand_in":
        changes["model.path"] = "/usr/local/bin/AI-ModelScope/gte-base-zh"
        if Path(str(changes["model.path"])).exists():
            pytest.skip("this machine has the real model")
    changed = config.replaced(**changes)
    file = write_config(changed, tmp_path / "slo.yaml")
    assert run(launch_model_server, ["--config", str(file)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "→" in error, "with a next step"
    assert "Traceback" not in error
    assert left_behind(config) == []


def test_a_server_that_dies_while_loading_shows_the_end_of_its_log(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XINFERENCE_HEALTH_CHECK_TIMEOUT", "not a number")  # Xinference reads it at import, and dies
    assert launch(config, "--stock") == 2
    error = capsys.readouterr().err
    assert "ended unexpectedly" in error
    assert "| ValueError: invalid literal for int()" in error
    assert left_behind(config) == ["model_server.log"], "its log tells the story and stays"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupted_launch_is_undone(config: Config, tmp_path: Path, number: signal.Signals) -> None:
    file = write_config(config, tmp_path / "slo.yaml")
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--config", str(file), "--stock"], stderr=subprocess.PIPE, text=True
    ) as launcher:
        state = wait_for_state(config)
        assert processes_of(state.instance)
        launcher.send_signal(number)
        _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + number
    assert f"stopped by {number.name}" in error
    assert processes_of(state.instance) == []
    assert set(left_behind(config)) <= {"model_server.log"}


def test_a_stop_has_a_launch_under_way_undone_and_names_it(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(config, tmp_path / "slo.yaml")
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--config", str(file), "--stock"], stderr=subprocess.PIPE, text=True
    ) as launcher:
        state = wait_for_state(config)
        assert run(launch_model_server, ["--config", str(file), "--stop"]) == 0
        assert f"process {launcher.pid} is launching" in capsys.readouterr().err
        _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + signal.SIGTERM, error
    assert processes_of(state.instance) == []
    assert read_state(config.state_dir) is None


@pytest.mark.parametrize("mode", ["--stop", "--status"])
def test_a_stale_record_of_a_pid_that_is_used_again_harms_nobody(
    config: Config, capsys: pytest.CaptureFixture[str], mode: str
) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        created_s = psutil.Process(stranger.pid).create_time()
        stale = ServerState(
            instance="gone", endpoint="http://127.0.0.1:1", log="x", server={}, pid=stranger.pid,
            created_s=created_s - 3600,
        )  # fmt: skip
        write_state(config.state_dir, stale)
        assert launch(config, mode) == (0 if mode == "--stop" else 1)
        assert stranger.poll() is None
        stranger.kill()
    if mode == "--status":
        assert f"the server process {stranger.pid} is gone" in " ".join(capsys.readouterr().out.split())


def test_stop_and_status_without_a_server_are_calm(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(config, "--stop") == 0
    assert "nothing to stop" in capsys.readouterr().out
    assert launch(config, "--status", "--json") == 1
    assert '"state": "down"' in capsys.readouterr().out
    assert left_behind(config) == []


def test_a_foreign_endpoint_that_is_silent_is_an_outage(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(config, "--endpoint", "http://127.0.0.1:1") == 1
    assert "no Xinference with a worker answers there" in capsys.readouterr().err


def wait_for_state(config: Config) -> ServerState:
    deadline_s = time.monotonic() + 120
    read: Callable[[], ServerState | None] = lambda: read_state(config.state_dir)  # noqa: E731
    while (state := read()) is None:
        assert time.monotonic() < deadline_s, "the launch did not start a server"
        time.sleep(0.02)
    return state
