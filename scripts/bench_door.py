"""
Xinference's own engine behind our door against the same engine in stock Xinference: it should never be slower.

    python scripts/bench_door.py [--rounds 3] [--seconds 8s] [--port 19994]

Both servers are up at a time on the same files and measured in turns, with one client (`slo baseline`) and with 50 that
ask again as soon as they have their answer (`slo stress`, everybody let in, as stock does). Prints the ratios of stock
to ours, above 1 where ours is better, by rounds. Leave the machine alone meanwhile; about 5 minutes.
"""

from __future__ import annotations

import argparse
from statistics import median

from scripts.bench_side import FOLDER, Side
from scripts.bench_table import answered_per_s, p95_where

ENGINE = "sentence_transformers"
STAND_IN = "models/stand-in-full"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", default="8s", help="of 50 clients, per turn")
    parser.add_argument("--requests", default="20", help="of one client, per length class and turn")
    parser.add_argument("--port", type=int, default=19994, help="and the one after it")
    options = parser.parse_args()
    door, stock = Side("door", options.port, stock=False), Side("plain", options.port + 1, stock=True)
    door.environment["SLO_SERVER_ENGINE"] = ENGINE
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        door.launch()
        if (door.state_dir / STAND_IN).is_dir():
            stock.environment["SLO_MODEL_PATH"] = str(door.state_dir / STAND_IN)
        stock.launch()
        door.policy("queue")
        for number in range(options.rounds):
            for side in (stock, door) if number % 2 == 0 else (door, stock):
                side.slo("one", "baseline", "--requests", options.requests)
            for side in (stock, door) if number % 2 == 0 else (door, stock):
                crowd = ("stress", "--concurrency", "50", "--duration", options.seconds, "--slice", options.seconds)
                side.slo("crowd", *crowd)
    finally:
        for side in (door, stock):
            side.stop()
    pairs = list(zip(stock.runs["one"], door.runs["one"], strict=True))
    crowds = list(zip(stock.runs["crowd"], door.runs["crowd"], strict=True))
    show("one client, P95", [a.summaries()[-1].p95_ms / b.summaries()[-1].p95_ms for a, b in pairs])
    show("one client, P50", [a.summaries()[-1].p50_ms / b.summaries()[-1].p50_ms for a, b in pairs])
    show("50 clients, P95", [p95_where(a, "ok") / p95_where(b, "ok") for a, b in crowds])
    show("50 clients, answers/s", [answered_per_s(b) / answered_per_s(a) for a, b in crowds])


def show(what: str, ratios: list[float]) -> None:
    """One line: the median of the rounds, and each."""
    print(f"{what:24s} {median(ratios):6.2f} times as good   ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


if __name__ == "__main__":
    main()
