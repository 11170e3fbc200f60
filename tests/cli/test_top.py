"""`slo top`: snapshots, the live view in a real terminal, and what it says where it has nothing to show."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from slo.cli.main import cli, run
from slo.page_client import PageClient
from slo.report.screen import block, board_view, state_of
from tests.serve.scene import MODEL, Scene, Site, serving


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A healthy service after ten minutes of traffic."""
    scene = Scene(tmp_path, wall_s=time.time() // 15 * 15 - 600)
    scene.play(600, p95_ms=104)
    with serving(scene) as running:
        yield running


def top(site: Site, *options: str) -> int:
    return run(cli, ["top", "--endpoint", site.address, *options])


@pytest.mark.parametrize(("p95_ms", "code", "word"), [(100, 0, "MET"), (240, 1, "MISSED")])
def test_a_snapshot_shows_the_figures_and_its_exit_code_the_verdict(
    site: Site, capsys: pytest.CaptureFixture[str], p95_ms: float, code: int, word: str
) -> None:
    site.call(lambda: site.scene.play(300, p95_ms=p95_ms))
    assert top(site, "--once") == code
    shown = capsys.readouterr().out
    window = site.call(site.scene.window)
    assert word in shown
    assert f"{window['good']}/{window['total']} within 150 ms" in shown
    assert f"P95 {window['p95_ms']:.0f} ms" in shown
    for panel in ("attainment", "traffic", "where the time goes", "processes and replicas", "STAND-IN WEIGHTS"):
        assert panel in shown
    assert "\x1b" not in shown


def test_processes_add_up_and_a_replica_that_is_missing_is_named(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.scene.lane.states = {f"{MODEL}-9": "LOADING"}
    assert top(site, "--once") == 0
    lines = capsys.readouterr().out.splitlines()
    memory = [line for line in lines if "iB" in line]  # a large test process has GiB
    assert any("api" in line for line in memory)
    assert any("all together" in line and "≤" in line for line in memory)  # the models' memory is counted in full
    assert any(f"{MODEL}-9" in line and "loading" in line for line in lines)


def test_the_chart_has_its_limit_and_now_on_the_right(site: Site) -> None:
    lines = rendered(site, 120, 40)
    start = next(number for number, line in enumerate(lines) if "P95, last 1h" in line)
    assert "limit ╌ 150 ms" in lines[start]
    bottom = lines[start + 3].strip("│ ")
    assert bottom.endswith(("█", "▇", "▆"))
    assert lines[start + 3].index(bottom) > 60  # ten minutes of an hour
    assert "╌" in lines[start + 1]


def test_json_is_what_the_server_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert top(site, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["board"]["window"]["total"] == site.call(site.scene.window)["total"]
    assert said["history"]["source"] == "memory"


def test_no_requests_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Scene(tmp_path)) as site:
        assert top(site, "--once") == 3
    assert "UNKNOWN" in capsys.readouterr().out


def test_a_server_without_the_extension_is_told_in_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(Scene(tmp_path)) as site:
        assert run(cli, ["top", "--endpoint", site.address + "/elsewhere", "--once"]) == 2
    assert "has no xinference-slo extension" in capsys.readouterr().err


def test_a_server_that_is_gone_is_an_outage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["top", "--endpoint", "http://127.0.0.1:9", "--once"]) == 1
    assert "nobody answers" in capsys.readouterr().err


def test_the_key_is_sent_and_a_missing_one_is_told(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.scene.key = "sk-of-this-test"
    assert top(site, "--once") == 2
    assert "SLO_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("SLO_API_KEY", "sk-of-this-test")
    assert top(site, "--once") == 0
    assert "sk-of" not in capsys.readouterr().out


def rendered(site: Site, columns: int, lines: int) -> list[str]:
    """The view as lines of text in a terminal of this size."""
    console = Console(width=columns, height=lines, force_terminal=False)
    with PageClient(site.address) as client, console.capture() as captured:
        console.print(board_view(client.board(), client.history(), size=(columns, lines)))
    return captured.get().splitlines()


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize("lines", [10, 24, 40, 60])
def test_it_fits_terminals_of_any_size(site: Site, columns: int, lines: int) -> None:
    shown = rendered(site, columns, lines)
    assert len(shown) <= lines
    assert max(map(len, shown)) <= columns
    assert any("MET" in line for line in shown)


def test_blocks_grow_with_their_share() -> None:
    assert [block(share) for share in (-1.0, 0.0, 0.01, 0.5, 1.0, 7.0)] == [" ", " ", "▁", "▄", "█", "█"]


def test_without_requests_there_is_no_verdict() -> None:
    assert state_of({"window": {"total": 0, "verdict": "unproven"}}) == "unknown"


class Terminal:
    """`slo top` in a pseudo-terminal of its own."""

    def __init__(self, address: str, columns: int, lines: int) -> None:
        self.seen = ""
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slo", "top", "--endpoint", address],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())

    def until(self, holds: Callable[[str], bool], within_s: float = 20.0) -> str:
        """Read until what was seen since the last call holds."""
        fresh, end_s = "", time.monotonic() + within_s
        while not holds(fresh):
            assert time.monotonic() < end_s, fresh[-2000:]
            if select.select([self._master], [], [], 0.2)[0]:
                try:
                    fresh += os.read(self._master, 65_536).decode(errors="replace")
                except OSError:  # Linux says so when the other side has closed
                    break
        return fresh

    def hang_up(self) -> None:
        """Close the window."""
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        if self._master >= 0:
            os.close(self._master)


@pytest.fixture
def terminal(site: Site) -> Iterator[Terminal]:
    opened = Terminal(site.address, 120, 40)
    yield opened
    opened.close()


def test_the_live_view_updates_reconnects_resizes_and_quits(site: Site, terminal: Terminal) -> None:
    terminal.until(lambda seen: "MET" in seen and "traffic" in seen)
    site.call(lambda: site.scene.play(300, p95_ms=240))
    terminal.until(lambda seen: "MISSED" in seen)
    site.stop()
    terminal.until(lambda seen: "reconnecting" in seen)
    site.start()
    terminal.resize(70, 12)
    terminal.until(lambda seen: "MISSED" in seen and "reconnecting" not in seen.rpartition("MISSED")[2])
    terminal.press("q")
    assert terminal.process.wait(10) == 0


def test_a_terminal_that_is_closed_ends_it(terminal: Terminal) -> None:
    terminal.until(lambda seen: "MET" in seen)
    terminal.hang_up()
    terminal.process.wait(10)  # it went on for ever once, asking the server as fast as it could
    assert terminal.process.returncode is not None
