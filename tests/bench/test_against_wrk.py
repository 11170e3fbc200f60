"""Cross-check with an independent tool: Debian's `wrk` on a server that answers at once."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from slo.bench.conditions import Stopper
from slo.bench.load import LoadPlan, load_once
from slo.bench.schedule import parse_arrivals
from slo.bench.session import Session
from slo.bench.soak import SoakPlan, soak
from slo.objective import Verdict
from slo.texts import SEED_EXAMPLES
from tests.bench.test_load import session
from tests.real_servers import program as installed

pytestmark = pytest.mark.quiet

Start = Callable[..., str]
CLIENTS = 8
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{body}]==]
"""
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def wrk(endpoint: str, folder: Path, seconds: int) -> tuple[float, float]:
    """Median latency in ms and requests per second, as `wrk` has them."""
    body = orjson.dumps({"model": "queue", "input": SEED_EXAMPLES["medium"]}).decode()
    (folder / "post.lua").write_text(SCRIPT.format(body=body))
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency", "-s", str(folder / "post.lua")]
    said = subprocess.run([*command, f"{endpoint}/v1/embeddings"], capture_output=True, text=True, check=True).stdout
    median, rate = re.search(r"50%\s+([\d.]+)(us|ms|s)", said), re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert median and rate, said
    return float(median.group(1)) * UNITS[median.group(2)], float(rate.group(1))


def ours(to: Session, folder: Path, seconds: float) -> tuple[float, float]:
    """The same from our closed loop."""
    plan = SoakPlan(id="x", clients=CLIENTS, duration_s=seconds, slice_s=60, warmup_s=0.2, file=folder / "x.jsonl",
                    header={"format": 1}, started_wall_s=time.time())  # fmt: skip
    run = soak(to, plan, on_slice=lambda _row: None, stopper=Stopper())
    figures = run.details["soak"]
    return run.details["slices"][0]["p50_ms"], figures["rate"]


def test_our_figures_are_those_of_wrk_within_a_few_percent(program: Start, tmp_path: Path) -> None:
    """In turns, three times each, the quietest of each: 8 callers of a server that answers each after 20 ms."""
    installed("wrk")
    endpoint = program("batch_server.py", "--fixed", 20, "--apart")
    to = replace(session(endpoint, mix=(("medium", 1.0),)), check_every=50)
    pairs = [(wrk(endpoint, tmp_path, 2), ours(to.reseeded(n), tmp_path, 2)) for n in range(3)]
    for index, best in ((0, min), (1, max)):  # median in ms, requests per second
        theirs, our = (best(pair[side][index] for pair in pairs) for side in (0, 1))
        assert our == pytest.approx(theirs, rel=0.05)


def test_the_generator_itself_makes_1500_requests_a_second_and_leaves_them_on_time(program: Start) -> None:
    """On one core, answers of 768 floats; every fiftieth is parsed."""
    to = replace(session(program("null_server.py", 768)), check_every=50)
    schedule = parse_arrivals("poisson", rate=1500, duration_s=3, seed=1)
    run = load_once(to, LoadPlan(schedule=schedule, warmup_s=0.3))
    check = run.details["self_check"]
    assert run.verdict is Verdict.MET, (run.void, check)
    assert len(run.samples) == len(schedule.due_s)
    assert check["cpu_share"] < 0.8


def test_at_200_per_second_requests_leave_within_5_ms(program: Start) -> None:
    schedule = parse_arrivals("poisson", rate=200, duration_s=3, seed=1)
    run = load_once(session(program("null_server.py", 768)), LoadPlan(schedule=schedule, warmup_s=0.3))
    assert run.details["self_check"]["lag_p99_ms"] <= 5
