"""A soak that is killed, then stopped, then finished is one run, from its first request to its last."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slo.bench.slices import read_slices
from slo.records import Run, load_run
from slo.report.plots import distribution, over_time
from slo.report.strings import Words

TESTS = Path(__file__).parent.parent
SLICE_S = 0.7
WORDS = Words("en")


@pytest.fixture
def endpoint() -> Iterator[str]:
    command = [sys.executable, str(TESTS / "batch_server.py"), "--fixed", "4", "--token", "0.05"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


class Soak:
    """`slo stress` as a process of its own, in a folder of its own; `said` is all that it printed."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self._endpoint, self.folder = endpoint, folder

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "slo", "stress", *words, "--endpoint", self._endpoint, "--model", "queue",
                   "--warmup", "0.2s"]  # fmt: skip
        environment = os.environ | {
            "PYTHONPATH": str(TESTS.parent),
            "SLO_LONGEST_STALL": "0s",
        }  # else "met" takes a minute
        with (self.folder / "said").open("ab") as said:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stderr=said, stdout=said)

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text(encoding="utf-8")

    @property
    def slices(self) -> int:
        (file,) = self.folder.glob(".slo/runs/*.slices.jsonl")
        return len(file.read_text().splitlines()) - 1

    def wait_for(self, slices: int, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + 30
        while not list(self.folder.glob(".slo/runs/*.slices.jsonl")) or self.slices < slices:
            assert process.poll() is None, self.said
            assert time.monotonic() < deadline_s, "no such slice"
            time.sleep(0.02)

    def record(self, name: str) -> Run:
        return load_run(name, self.folder / ".slo")


def test_killed_then_stopped_then_finished_is_one_run(endpoint: str, tmp_path: Path) -> None:
    soak = Soak(endpoint, tmp_path)
    killed = soak.begin("--concurrency", "4", "--duration", "6s", "--slice", f"{SLICE_S}s")
    soak.wait_for(2, killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=30)
    (file,) = (tmp_path / ".slo" / "runs").glob("*.slices.jsonl")
    name = file.name.removesuffix(".slices.jsonl")
    assert not file.with_name(f"{name}.json").exists()
    header, first = read_slices(file)

    stopped = soak.begin("--resume", name)
    soak.wait_for(len(first) + 2, stopped)
    time.sleep(SLICE_S / 3)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(timeout=30) == 130, soak.said
    halfway = soak.record(name)
    assert halfway.interrupted

    finished = soak.begin("--resume", name)
    assert finished.wait(timeout=60) in (0, 3), soak.said  # 3: the hypervisor took too much of the machine meanwhile
    run, (_, rows) = soak.record(name), read_slices(file)

    assert not run.interrupted
    assert run.details["sessions"] == 3
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert rows[: len(first)] == first, "what was written before is never rewritten"
    assert run.details["soak"]["seconds"] == pytest.approx(6, abs=0.5)
    # Nothing of any session is missing: each slice's requests are in the counts and among the samples.
    total = sum(row["total"] for row in rows)
    assert run.summaries()[-1].total == total == len(run.samples) > halfway.summaries()[-1].total
    for row in rows:
        inside = [sample for sample in run.samples if row["t"] <= sample.done_s < row["t"] + row["seconds"]]
        assert len(inside) == pytest.approx(row["total"], rel=0.15, abs=4), "as full in the samples as in the counts"
    # Checks of the first session count at the end: answers compared, and the generator's own behaviour.
    assert run.details["answers"]["compared"] > halfway.details["answers"]["compared"] > 0
    assert run.details["self_check"]["little_gap"] < 0.05
    assert run.settings["command"] == header["command"], "the command repeats the run, not its last part"
    over, spread = over_time(run, WORDS), distribution(run, WORDS)
    assert over is not None and spread is not None
    drawn = over.traces[0].y
    assert [y is None for y in drawn].count(False) == len(rows), "every slice has its point"
    assert [y is None for y in drawn].count(True) == 2, "and every interruption its gap"
    assert sum(y or 0 for trace in spread.traces for y in trace.y) == pytest.approx(100, abs=0.1)


def test_a_run_that_was_killed_after_its_last_slice_only_needs_its_record(endpoint: str, tmp_path: Path) -> None:
    soak = Soak(endpoint, tmp_path)
    done = soak.begin("--concurrency", "4", "--duration", "1s", "--slice", "0.5s")
    done.wait(timeout=60)
    (record,) = (tmp_path / ".slo" / "runs").glob("*-stress-??????.json")
    before = json.loads(record.read_text())
    record.unlink()
    again = soak.begin("--resume", before["id"])
    assert again.wait(timeout=60) == done.returncode, soak.said
    after = json.loads(record.read_text())
    assert after["summaries"] == before["summaries"]
    assert after["details"]["soak"] == before["details"]["soak"]
    assert soak.begin("--resume", before["id"]).wait() == 2, "complete, and recorded"
