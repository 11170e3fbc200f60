"""
The before/after story on this machine: stock Xinference against ours, both up at a time and measured in turns.

    python scripts/bench.py [--quick] [--out bench.md]

One client per length class, 50 closed-loop clients, open-loop load, the highest rate that holds, memory and start; ours
also cache hits, three times the rate that it is asked to hold, and the seconds after. Every run is an ordinary record
below .slo/bench/, so `slo report` and `slo compare` can read it. Takes about an hour, with --quick 6 (no capacity,
short runs); Ctrl-C ends it with what is known by then. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from scripts.bench_side import FOLDER, Memory, Side, roof
from scripts.bench_table import STOCK_RATE, table
from slo.clock import SystemClock, iso
from slo.host import host_facts

STAND_IN = "models/stand-in-full"
CLIENTS = "50"


def main() -> None:
    """Measure both sides and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter runs, wider intervals, no search for capacity")
    parser.add_argument("--rate", type=float, default=80.0, help="open-loop rate for ours, requests per second")
    parser.add_argument("--stress", default="10m", help="length of the stress test (default: 10m; 20s with --quick)")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    ours, stock = Side("ours", 19997, stock=False), Side("stock", 19996, stock=True)
    try:
        memory = launch_both(stock, ours)
        stress = "20s" if options.quick and options.stress == "10m" else options.stress
        with suppress(KeyboardInterrupt):
            in_turns(stock, ours, quick=options.quick, rate=options.rate, stress=stress)
        under_load = {side.name: side.memory() for side in (stock, ours)}
    finally:
        for side in (ours, stock):
            side.stop()
    limits = {} if options.quick else roof()
    host = host_facts()
    text = "\n".join([
        f"{host['cpu']}, {host['cores']} cores, load generator on the same cores; {iso(SystemClock().wall())[:10]}.",
        "Stand-in weights of true size." if (ours.state_dir / STAND_IN).is_dir() else "",
        "",
        *table(stock, ours, under_load, limits, options.rate),
        "",
        *(f"{name}: {memory[name].model:.0f} MiB (PSS) for the model process right after the start" for name in memory),
        "",
        "Records: " + ", ".join(f"`{side.name}/runs/{run.id}`" for side in (stock, ours)
                                for runs in side.runs.values() for run in runs),
    ]) + "\n"  # fmt: skip
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def launch_both(stock: Side, ours: Side) -> dict[str, Memory]:
    """Start both on the same model files, once to have them converted and once more for the time that a start takes."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    ours.stop()
    stock.stop()
    ours.launch()
    ours.stop()
    ours.launch()
    if (ours.state_dir / STAND_IN).is_dir():
        stock.environment["SLO_MODEL_PATH"] = str(ours.state_dir / STAND_IN)
    stock.launch()
    return {side.name: side.memory() for side in (stock, ours)}


def in_turns(stock: Side, ours: Side, *, quick: bool, rate: float, stress: str) -> None:
    """All measurements. What repeats, repeats side by side, so that a busy minute of the host meets both."""
    requests, seconds, rounds = ("60", "20s", 3) if quick else ("200", "60s", 3)
    for _ in range(rounds):
        for side in (stock, ours):
            side.slo("baseline", "baseline", "--requests", requests)
    ours.slo("seen", "baseline", "--requests", "100", "--seed", "4711")
    ours.slo("cached", "baseline", "--requests", "100", "--seed", "4711")
    crowd = ("stress", "--concurrency", CLIENTS, "--duration", seconds, "--slice", seconds)
    # Fifty impatient callers are more than 150 ms allow. By default some of them are answered in time; the throughput
    # of the whole mix is taken with everybody let in, as stock does.
    ours.policy("queue")
    for side in (stock, ours):
        side.slo("crowd", *crowd)
    ours.policy("defer")
    ours.slo("load", "load", "--rate", f"{rate:g}", "--duration", seconds)
    stock.slo("load", "load", "--rate", f"{STOCK_RATE:g}", "--duration", seconds)
    ours.slo("overload", "load", "--rate", f"{3 * rate:g}", "--duration", seconds, "--warmup", "2s")
    ours.slo("after", "load", "--rate", f"{rate / 2:g}", "--duration", "10s", "--warmup", "5s")
    soak = ("stress", "--concurrency", CLIENTS, "--slice", "1m", "--duration")
    if not quick:
        ours.slo("capacity", "capacity", "--floor", "40", "--per-class", "--ladder")
    ours.slo("stress", *soak, stress)
    if not quick:
        stock.slo("capacity", "capacity", "--floor", "2", "--ceiling", "16", "--confirm", "2m", "--ladder")
    stock.slo("stress", *soak, stress)


if __name__ == "__main__":
    main()
