"""
Our load client beside others: `python -m scripts.bench_client [--rounds 5] [--seconds 10]`, on a machine at rest.

A server answers each request after 20 ms, whatever else it is asked, so that all that differs is the client. In turns:

* *callers*: 8 who ask again when answered: at most 400 requests/s, which is half of what client and server together can
  do on one core. `wrk` against `slo stress`.
* *rate*: 200 requests a second, evenly. `hey` (8 workers, 25/s each) against `slo load`.

Prints P50, P95 and rate of each, as medians over the rounds, and their ratios; exit code 1 if P95 or rate differ from
wrk's by over 5 %. (hey's own workers come late when the machine is busy, which its latencies do not tell from the
server's.) Needs Debian's `wrk`; `hey` is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import orjson

from slo.bench.conditions import Stopper
from slo.bench.load import LoadPlan, load_once
from slo.bench.schedule import parse_arrivals
from slo.bench.session import Session
from slo.bench.soak import SoakPlan, soak
from slo.bench.wire import target
from slo.bench.workload import Workload
from slo.objective import Objective
from slo.stats import nearest_rank
from slo.texts import SEED_EXAMPLES

SERVER = Path(__file__).parent.parent / "tests" / "batch_server.py"
CALLERS, WORKER_RATE, ANSWER_MS = 8, 25, 20
LIMIT = 0.05
BODY = orjson.dumps({"model": "queue", "input": SEED_EXAMPLES["medium"]}).decode()
SCRIPT = f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [==[{BODY}]==]
done = function(summary, latency)
  io.write(string.format("took %d %d %d %d\\n", latency:percentile(50), latency:percentile(95), summary.requests,
    summary.duration))
end
"""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one client says of one round."""

    p50_ms: float
    p95_ms: float
    rate: float


def wrk(endpoint: str, folder: Path, seconds: float, callers: int = CALLERS) -> Figures:
    """Callers who ask again when answered."""
    (folder / "post.lua").write_text(SCRIPT)
    command = ["wrk", "-t1", f"-c{callers}", f"-d{seconds:g}s", "-s", str(folder / "post.lua")]
    said = subprocess.run([*command, f"{endpoint}/v1/embeddings"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"took (\d+) (\d+) (\d+) (\d+)", said)
    if found is None:
        raise RuntimeError(f"wrk said: {said}")
    p50, p95, requests, took = map(int, found.groups())  # microseconds
    return Figures(p50_ms=p50 / 1000, p95_ms=p95 / 1000, rate=requests / took * 1e6)


def hey(endpoint: str, seconds: float) -> Figures:
    """Workers who each send so many a second, if they are answered in time."""
    command = ["hey", "-z", f"{seconds:g}s", "-c", str(CALLERS), "-q", str(WORKER_RATE), "-m", "POST",
               "-T", "application/json", "-d", BODY, "-o", "csv", f"{endpoint}/v1/embeddings"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = list(csv.DictReader(said.splitlines()))
    took = sorted(float(row["response-time"]) * 1000 for row in rows)
    span = max(float(row["offset"]) for row in rows)
    return Figures(p50_ms=nearest_rank(took, 0.5), p95_ms=nearest_rank(took, 0.95), rate=len(took) / span)


def our_callers(to: Session, folder: Path, seconds: float, callers: int = CALLERS) -> Figures:
    """`slo stress`."""
    plan = SoakPlan(id="x", clients=callers, duration_s=seconds, slice_s=3600, warmup_s=0.2, file=folder / "x.jsonl",
                    header={"format": 1}, started_wall_s=time.time())  # fmt: skip
    run = soak(to, plan, on_slice=lambda _row: None, stopper=Stopper())
    (piece,) = run.details["slices"]
    return Figures(p50_ms=piece["p50_ms"], p95_ms=piece["p95_ms"], rate=run.details["soak"]["rate"])


def our_rate(to: Session, seconds: float) -> Figures:
    """`slo load --arrivals constant`."""
    schedule = parse_arrivals("constant", rate=CALLERS * WORKER_RATE, duration_s=seconds, seed=to.seed)
    run = load_once(to, LoadPlan(schedule=schedule, warmup_s=0.2))
    (whole,) = run.summaries()
    return Figures(p50_ms=whole.p50_ms, p95_ms=whole.p95_ms, rate=whole.total / run.details["measured_s"])


def session(endpoint: str) -> Session:
    """Medium texts, an answer in fifty parsed."""
    return Session(
        target=target(endpoint, "queue", timeout_s=5.0), workload=Workload(mix=(("medium", 1.0),), seed=1),
        objective=Objective(), seed=1,
    )  # fmt: skip


@contextmanager
def served(milliseconds: float) -> Iterator[str]:
    """A server that answers each request after so long, whatever else there is; its endpoint."""
    command = [sys.executable, str(SERVER), "--fixed", str(milliseconds), "--apart"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def in_turns(sides: dict[str, Callable[[int], Figures]], rounds: int) -> dict[str, Figures]:
    """Medians over the rounds."""
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, measure in sides.items():
            found[name].append(measure(number))
    return {
        name: Figures(**{key: median(getattr(part, key) for part in parts) for key in ("p50_ms", "p95_ms", "rate")})
        for name, parts in found.items()
    }


def told(title: str, found: dict[str, Figures]) -> bool:
    """Print the figures and ratios; are ours within 5 % of the other's?"""
    (theirs_name, theirs), (ours_name, ours) = found.items()
    print(f"\n| {title} | P50 | P95 | requests/s |\n|---|---|---|---|")
    for name, part in found.items():
        print(f"| {name} | {part.p50_ms:.2f} ms | {part.p95_ms:.2f} ms | {part.rate:.1f} |")
    ratios = [getattr(ours, key) / getattr(theirs, key) for key in ("p50_ms", "p95_ms", "rate")]
    print(f"| {ours_name} / {theirs_name} | " + " | ".join(f"{ratio:.3f}" for ratio in ratios) + " |")
    return all(abs(ratio - 1) <= LIMIT for ratio in ratios[1:])


def main() -> int:
    """Measure and print; 1 beyond 5 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=10)
    given = parser.parse_args()
    with served(ANSWER_MS) as endpoint, tempfile.TemporaryDirectory() as name:
        folder, to = Path(name), session(endpoint)
        callers: dict[str, Callable[[int], Figures]] = {
            "wrk": lambda _: wrk(endpoint, folder, given.seconds),
            "slo stress": lambda number: our_callers(to.reseeded(number), folder, given.seconds),
        }
        good = told(f"{CALLERS} callers", in_turns(callers, given.rounds))
        if shutil.which("hey"):
            rates: dict[str, Callable[[int], Figures]] = {
                "hey": lambda _: hey(endpoint, given.seconds),
                "slo load": lambda number: our_rate(to.reseeded(f"rate {number}"), given.seconds),
            }
            told(f"{CALLERS * WORKER_RATE} a second", in_turns(rates, given.rounds))
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
