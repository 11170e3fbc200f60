"""
Where our gain over stock Xinference comes from: one server per step, each with one thing more than the one before.

    python scripts/bench_switches.py [--rounds 3] [--seconds 8] [--model DIR]
    python scripts/bench_switches.py --at "stock=http://127.0.0.1:19996" --at "our door=http://127.0.0.1:19990" …

All servers are up at a time, two GiB for the first and 0.7 for each other, and asked in turns by the client of
`bench_peers.py`, which sends no text twice; `--at` measures servers that run already, in this order. The table has each
figure's median over the rounds, and how many times better it is than one step before. Leave the machine alone.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from scripts.bench_peers import STAND_IN, Launched, Round, Running, Server, form, one_round, print_result
from scripts.bench_side import FOLDER, Side
from scripts.peer_columns import Column, columns

COLUMNS = ("one caller, 20 ", "50 callers", "32 texts of 50 ")
ALONE = {"SLO_SERVE_BATCH_MAX_ITEMS": "1", "SLO_SERVER_STREAMS": "1"}
STEPS: dict[str, dict[str, str]] = {
    "our door around Xinference's engine": {"SLO_SERVER_ENGINE": "sentence_transformers"},
    "our engine, fp32, a text a pass": {"SLO_SERVER_PRECISION": "fp32", **ALONE},
    "int8": {"SLO_SERVER_PRECISION": "int8", **ALONE},
    "texts share passes": {"SLO_SERVER_PRECISION": "int8", "SLO_SERVER_STREAMS": "1"},
    "two streams: the defaults": {},
    "the cache turned off": {"SLO_SERVE_CACHE_ENABLED": "false"},
}


def main(arguments: list[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="the model's folder; default: the stand-in of bench.py's server")
    parser.add_argument("--at", action="append", default=[], metavar="NAME=URL", help="a server that runs already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args(arguments)
    all_columns = columns(rate=0.0, seconds=options.seconds, requests=options.requests)
    asked = [column for column in all_columns if any(part in column.name for part in COLUMNS)]
    model = options.model or FOLDER / "ours" / STAND_IN
    servers: list[Server] = [Running(*each.split("=", 1)) for each in options.at] or launched(model)
    rounds: list[Round] = []
    try:
        for server in servers:
            server.start()
        rounds.extend(one_round(servers, asked, number, alone=False) for number in range(options.rounds))
    except KeyboardInterrupt:
        print("ended early", file=sys.stderr)
    finally:
        for server in reversed(servers):
            server.stop()
    print_result(table(rounds, [server.name for server in servers], asked))
    return 0


def launched(model: Path) -> list[Server]:
    """Stock Xinference and one server per step, on ports and in folders of their own."""
    sides = [("stock Xinference", Side("stock", 19996, stock=True))]
    for number, (name, changes) in enumerate(STEPS.items()):
        side = Side(f"step{number}", 19980 + number, stock=False)
        side.environment.update(changes)
        sides.append((name, side))
    for _, side in sides:
        side.environment["SLO_MODEL_PATH"] = str(model)
    return [Launched(name, side) for name, side in sides]


def table(rounds: list[Round], names: list[str], asked: list[Column]) -> list[str]:
    """Markdown: a row per server."""
    lines = [
        f"| | {' | '.join(f'{column.name}, {column.unit}' for column in asked)} |",
        "|---" * (len(asked) + 1) + "|",
    ]
    for name, before in zip(names, ["", *names], strict=False):
        cells = []
        for column in asked:
            found = [each[column.name] for each in rounds]
            value = statistics.median(each[name] for each in found)
            cell = f"{value:{form(value)}}"
            if before:
                ratios = [each[before] / each[name] if column.lower else each[name] / each[before] for each in found]
                cell += f" ({statistics.median(ratios):.2f} ×)"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
