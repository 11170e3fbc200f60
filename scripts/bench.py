"""
The before/after story on this machine: stock Xinference against ours, one after the other in one run.

    python scripts/bench.py [--quick] [--out docs/performance-run.md]

For each side, on a server of its own (port 19997): one client per length class, 50 closed-loop clients, open-loop
load; ours also cache hits, three times the rate that it holds, and the seconds after. Every run is an ordinary record
in .slo/runs, so `slo report` and `slo compare` can read it. Takes about 12 minutes, with --quick 5.
Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from slo.objective import Objective
from slo.records import Run, host_facts, load_run
from slo.stats import nearest_rank

ROOT = Path(__file__).resolve().parent.parent
PORT = "19997"
STATE = ROOT / ".slo"
ENVIRONMENT = {
    **os.environ,
    "SLO_STATE_DIR": str(STATE),
    "SLO_SERVER_PORT": PORT,
    "SLO_SERVER_LOG": str(STATE / "bench.log"),
    "SLO_MODEL_DOWNLOAD": "false",
}
CLASSES = ("short", "medium", "long")


def slo(*arguments: str) -> Run:
    """Run one measuring command and return its record."""
    print("$ slo", *arguments, file=sys.stderr, flush=True)
    before = set((STATE / "runs").glob("*.json"))
    done = subprocess.run(
        [sys.executable, "-m", "slo", *arguments], check=False, env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    if done.returncode in (2, 130):
        sys.exit(f"slo {' '.join(arguments)} ended with code {done.returncode}")
    new = sorted(set((STATE / "runs").glob("*.json")) - before)
    return load_run(str(new[-1]), STATE)


def launcher(*arguments: str, json_output: bool = False) -> dict[str, Any]:
    """Run the launcher; what it says, with `json_output`."""
    command = [sys.executable, str(ROOT / "launch_model_server.py"), *arguments, *(["--json"] if json_output else [])]
    done = subprocess.run(command, check=False, env=ENVIRONMENT, capture_output=json_output, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"launch_model_server.py {' '.join(arguments)} ended with code {done.returncode}")
    return dict(json.loads(done.stdout)) if json_output else {}


def p95_by_class(run: Run) -> str:
    figures = {summary.name: summary.p95_ms for summary in run.summaries()}
    return " / ".join(f"{figures[name]:.1f}" for name in CLASSES)


def answered_per_s(run: Run) -> float:
    """Requests answered within the run's own time span."""
    overall = run.summaries()[-1]
    span_s = max(s.done_s for s in run.samples) - min(s.due_s for s in run.samples)
    return (overall.total - overall.failed) / span_s


def good_per_s(run: Run) -> float:
    span_s = max(s.due_s for s in run.samples) - min(s.due_s for s in run.samples)
    return sum(s.good(Objective()) for s in run.samples) / span_s


def p95_where(run: Run, outcome: str) -> float:
    """P95 in ms over the requests that ended so."""
    return nearest_rank(sorted(s.latency_ms for s in run.samples if s.outcome == outcome), 0.95)


def side(stock: bool, seconds: int, requests: int, rate: float) -> dict[str, Any]:
    """All figures of one side."""
    launcher("--stop")
    figures: dict[str, Any] = {}
    stress = ("stress", "--concurrency", "50", "--duration", f"{seconds}s", "--slice", f"{seconds}s")
    try:
        # Fifty impatient callers are more than 150 ms allow. Shedding would answer the short texts among them only,
        # so the throughput of the whole mix is taken with everybody let in, as stock does.
        ENVIRONMENT["SLO_SERVE_ADMISSION_POLICY"] = "queue"
        launcher("--no-download", *(["--stock"] if stock else []))
        figures["stress"] = slo(*stress)
        if not stock:
            launcher("--stop")
            del ENVIRONMENT["SLO_SERVE_ADMISSION_POLICY"]
            launcher("--no-download")
        figures["baseline"] = slo("baseline", "--requests", str(requests))
        figures["load"] = slo("load", "--rate", f"{rate:g}", "--duration", f"{seconds}s")
        if not stock:
            slo("baseline", "--requests", "100", "--seed", "4711")
            figures["cached"] = slo("baseline", "--requests", "100", "--seed", "4711")
            figures["shed"] = slo(*stress)
            figures["overload"] = slo("load", "--rate", f"{3 * rate:g}", "--duration", f"{seconds}s", "--warmup", "2s")
            figures["after"] = slo("load", "--rate", f"{rate / 2:g}", "--duration", "10s", "--warmup", "5s")
        figures["status"] = launcher("--status", json_output=True)
    finally:
        ENVIRONMENT.pop("SLO_SERVE_ADMISSION_POLICY", None)
        launcher("--stop")
    return figures


def table(stock: dict[str, Any], ours: dict[str, Any], rate: float) -> str:
    """Markdown."""
    rows = [
        ("one client, P95 ms: short / medium / long", p95_by_class(stock["baseline"]), p95_by_class(ours["baseline"])),
        *(
            (f"50 closed-loop clients: {name}", f"{of(stock['stress']):.1f}", f"{of(ours['stress']):.1f}")
            for name, of in (
                ("answers/s", answered_per_s),
                ("P95 of answers, ms", lambda run: p95_where(run, "ok")),
                ("within 150 ms, per s", good_per_s),
            )
        ),
        ("50 closed-loop clients, shedding: within 150 ms, per s", "", f"{good_per_s(ours['shed']):.1f}"),
        (
            f"open loop, Poisson: within 150 ms at {stock['load'].settings.get('rate', '?')} / {rate:g} per s",
            f"{stock['load'].summaries()[-1].judgement.good_ratio:.1%}",
            f"{ours['load'].summaries()[-1].judgement.good_ratio:.1%} ({ours['load'].verdict.value})",
        ),
        (f"open loop, P95 ms at {rate:g}/s, failures counted", "", f"{ours['load'].summaries()[-1].p95_ms:.0f}"),
    ]
    cached = ours["cached"].cached()
    overload = ours["overload"]
    rows += [
        ("cache hits, P95 ms", "no cache", f"{cached.p95_ms:.2f}" if cached else "–"),
        (f"{3 * rate:g}/s offered: P95 of accepted, ms", "", f"{p95_where(overload, 'ok'):.0f}"),
        (f"{3 * rate:g}/s offered: good per s", "", f"{good_per_s(overload):.1f}"),
        (f"{3 * rate:g}/s offered: P95 of refusals, ms", "", f"{p95_where(overload, 'refused'):.1f}"),
        ("5 s after that: within 150 ms", "", f"{ours['after'].summaries()[-1].judgement.good_ratio:.1%}"),
    ]
    host = host_facts()
    lines = [
        f"{host['cpu']}, {host['cores']} cores, load generator on the same cores; stand-in weights of true size.",
        "",
        "| | stock Xinference 4.1.0 | xinference-slo |",
        "|---|---|---|",
        *(f"| {name} | {before} | {after} |" for name, before, after in rows),
        "",
        "Records: "
        + ", ".join(f"`{run.id}`" for part in (stock, ours) for run in part.values() if isinstance(run, Run)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs, wider intervals")
    parser.add_argument("--rate", type=float, default=80.0, help="open-loop rate for ours, requests per second")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    seconds, requests = (20, 60) if options.quick else (60, 200)
    stock = side(True, seconds, requests, 5.0)
    ours = side(False, seconds, requests, options.rate)
    text = table(stock, ours, options.rate)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
