import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slo.cli.main import cli, run
from slo.texts import SEED_EXAMPLES
from tests.stub_server import Reply, StubServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubServer]:
    monkeypatch.chdir(tmp_path)
    with StubServer(prefix="/openai/v1") as stub:
        yield stub


def slo(server: StubServer, *arguments: str) -> int:
    return run(cli, [arguments[0], "--endpoint", server.endpoint, "--model", "m", *arguments[1:]])


def started(server: StubServer, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "slo", "watch", "--endpoint", server.endpoint, "--model", "m", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_check_prints_one_line_and_exits_by_the_contract(
    server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert slo(server, "check") == 0
    out, err = capsys.readouterr()
    assert out.startswith("OK P95 ")
    assert (out.count("\n"), err) == (1, "")


@pytest.mark.quiet
def test_check_of_a_healthy_server_takes_less_than_two_seconds_all_in_all(server: StubServer) -> None:
    server.script = lambda _n, _texts: Reply(delay_s=0.012)
    before = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "slo", "check", "--endpoint", server.endpoint],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert time.monotonic() - before < 2  # 61 × 12 ms of the server's own
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("reply", "code", "word"),
    [
        (Reply(status=429), 1, "MISSED"),
        (Reply(status=503), 1, "OUTAGE"),
        (Reply(delay_s=0.1), 3, "UNPROVEN"),
    ],
    ids=["sheds all load", "down", "too slow to decide in time"],
)
def test_check_says_what_is_wrong(
    server: StubServer, capsys: pytest.CaptureFixture[str], reply: Reply, code: int, word: str
) -> None:
    server.script = lambda _n, _texts: reply
    assert slo(server, "check", "--timeout", "1s") == code
    assert capsys.readouterr().out.startswith(word)


def test_check_of_a_server_that_is_gone_is_an_outage_at_once(
    server: StubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    before = time.monotonic()
    assert slo(server, "check") == 1
    assert time.monotonic() - before < 10, "no timeout was waited for"
    assert capsys.readouterr().out.startswith("OUTAGE ")


def test_check_for_machines(server: StubServer, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert slo(server, "check", "--json") == 0
    assert json.loads(capfdbinary.readouterr().out)["status"] == "ok"


@pytest.mark.parametrize("options", [["--timeout", "0s"], ["--timeout", "soon"], ["--endpoint", "ftp://h"]])
def test_check_refuses_nonsense(server: StubServer, options: list[str]) -> None:
    assert slo(server, "check", *options) == 2


def test_a_rejected_key_is_two_and_says_where_the_key_came_from(
    server: StubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.api_key = "right"
    monkeypatch.setenv("SLO_API_KEY", "sk-marker")
    assert slo(server, "check") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "environment variable SLO_API_KEY" in err
    assert "sk-marker" not in err


def test_watch_writes_a_line_per_check(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    # The window holds all three rounds, however late they are.
    assert slo(server, "watch", "--interval", "1500ms", "--window", "30s", "--probes", "10", "--count", "3") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert all("  ok  " in line for line in out.splitlines())
    assert "watching m at" in err


def test_watch_counts_each_round_once(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--interval", "1500ms", "--window", "30s", "--probes", "10", "--count", "3", "--json")
    assert slo(server, "watch", *options) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    totals = [r["total"] for r in records]
    assert totals[0] == 10, "the first ones are waited for"
    assert all(r["good"] == r["total"] for r in records)
    assert [r["window_total"] for r in records] == [10, 10 + totals[1], sum(totals)]
    own = [text for text in server.texts if text not in SEED_EXAMPLES.values()]
    assert len(set(own)) == len(own) >= sum(totals)


def test_watch_for_machines_writes_a_record_per_line(server: StubServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script = lambda _n, _texts: Reply(status=500)
    assert slo(server, "watch", "--interval", "2s", "--probes", "10", "--count", "1", "--json") == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["state"], record["event"], record["total"]) == ("missed", None, 10)


def test_watch_tells_of_an_outage_and_of_its_end(server: StubServer, tmp_path: Path) -> None:
    settings = tmp_path / "quick.yaml"  # a month's windows in an hour's, so that seconds suffice
    settings.write_text("watch: {budget: {period: 1h}}\n", encoding="utf-8")
    child = started(server, "--interval", "1s", "--window", "3s", "--probes", "30", "--config", str(settings))
    assert child.stdout is not None
    seen: list[str] = []
    try:
        for line in child.stdout:
            seen.append(line)
            if len(seen) == 5:
                server.script = lambda _n, _texts: Reply(fault="reset")
            if "ALERT critical" in line:
                server.script = lambda _n, _texts: Reply()
            if "EASED" in line or "RECOVERED" in line:
                break
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=45)
    finally:
        child.kill()
    assert child.returncode == 0
    assert sum("  ALERT critical " in line for line in seen) == 1
    assert all("  ok  " not in line for line in seen if "firing:" in line)
    assert "stopped" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("delay_s", [0.0, 60.0], ids=["while waiting", "while a probe hangs"])
def test_watch_stops_at_once(server: StubServer, number: signal.Signals, delay_s: float) -> None:
    server.script = lambda _n, _texts: Reply(delay_s=delay_s)
    child = started(server)
    try:
        deadline = time.monotonic() + 60
        while len(server.requests) < (1 if delay_s else 61) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        before = time.monotonic()
        child.send_signal(number)
        _, err = child.communicate(timeout=45)
    finally:
        child.kill()
    assert child.returncode == 0, err
    assert time.monotonic() - before < 45, "neither the interval nor the probe was waited for"
    assert "Traceback" not in err


@pytest.mark.parametrize("options", [["--interval", "0s"], ["--probes", "1"], ["--count", "0"], ["--endpoint", "h"]])
def test_watch_refuses_nonsense(server: StubServer, options: list[str]) -> None:
    assert slo(server, "watch", *options) == 2
