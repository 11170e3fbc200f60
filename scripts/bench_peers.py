"""
Our server beside its rivals on this machine: the same client, the same texts, in turns.

    python scripts/bench_peers.py --recipes DIR --peers DIR [--rivals mosec_padded …] [--stock] [--rounds 3]
    python scripts/bench_peers.py --at one=http://127.0.0.1:9997 --at other=http://127.0.0.1:9998

`--recipes` is a folder with `start_NAME.sh` for each rival and `lib.sh`, whose `stop_server NAME` ends it; a recipe
gets `PEERS` (environments and converted models) and `MODEL` (the model's folder), and prints `ready on URL`. Ours runs
at its defaults, and is the first column; with `--stock` Xinference, too, at its defaults. `--at` measures servers that
run already, the first of them in the place of ours. All are up at a time and asked in turns; `--alone` starts and stops
each in its turn. Each column of each round stands in `--out`; runs with the same file go into one table, in which a
ratio is always between servers of one round. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.bench_side import Side
from scripts.peer_columns import Column, columns
from slo.clock import SystemClock, iso
from slo.host import host_facts

STAND_IN = "models/stand-in-full"
OURS = "xinference-slo"
Round = dict[str, dict[str, float]]  # column → server → figure


@dataclass
class Running:
    """A server that somebody else looks after."""

    name: str
    endpoint: str

    def start(self) -> None:
        """It runs."""

    def stop(self) -> None:
        """It is not ours to stop."""


@dataclass
class Launched:
    """Xinference, ours or stock."""

    name: str
    side: Side

    @property
    def endpoint(self) -> str:
        return self.side.endpoint

    def start(self) -> None:
        self.side.launch()

    def stop(self) -> None:
        self.side.stop()


@dataclass
class Rival:
    """A server by its recipe."""

    name: str
    recipes: Path
    environment: dict[str, str]
    endpoint: str = field(default="", init=False)

    def start(self) -> None:
        self.stop()
        recipe = self.recipes / f"start_{self.name}.sh"
        done = subprocess.run(
            ["bash", str(recipe)],
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            stdin=subprocess.DEVNULL,
        )
        ready = re.search(r"ready on (http://[^/\s]+)", done.stdout)
        if done.returncode or ready is None:
            sys.exit(f"{recipe}: {done.stdout}{done.stderr}")
        self.endpoint = ready[1]

    def stop(self) -> None:
        stop = f'. "{self.recipes}/lib.sh"; stop_server {self.name}'
        subprocess.run(["bash", "-c", stop], check=False, capture_output=True, env=self.environment)


Server = Running | Launched | Rival


def main(arguments: list[str]) -> int:
    """Measure, keep what was found, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=Path, help="folder with start_NAME.sh and lib.sh")
    parser.add_argument("--peers", type=Path, help="folder with the rivals' environments and models")
    parser.add_argument("--rivals", nargs="+", default=[], metavar="NAME", help="default: all recipes in the folder")
    parser.add_argument("--model", type=Path, help="the model's folder; default: our stand-in")
    parser.add_argument("--stock", action="store_true", help="Xinference as it comes, too")
    parser.add_argument("--at", action="append", default=[], metavar="NAME=URL", help="a server that runs already")
    parser.add_argument("--alone", action="store_true", help="one server up at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=60, help="of one caller, short texts")
    parser.add_argument("--seconds", type=float, default=8.0, help="of the columns with many callers")
    parser.add_argument("--rate", type=float, default=100.0, help="of the open loop")
    parser.add_argument("--only", default="", help="columns whose name has this in it")
    parser.add_argument("--out", type=Path, default=Path(".slo/bench/peers.json"))
    options = parser.parse_args(arguments)
    asked = [column for column in columns(rate=options.rate, seconds=options.seconds, requests=options.requests)
             if options.only in column.name]  # fmt: skip
    servers = servers_of(options)
    rounds: list[Round] = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else []
    try:
        if not options.alone:
            for server in servers:
                server.start()
        for number in range(options.rounds):
            rounds.append(one_round(servers, asked, len(rounds), alone=options.alone))
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(rounds, indent=1), "utf-8")
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("ended early", file=sys.stderr)
    finally:
        for server in reversed(servers):
            server.stop()
    print_result(table(rounds, asked))
    return 0


def print_result(lines: Iterable[str]) -> None:
    """A table of rounds, below the machine and the day."""
    host = host_facts()
    print(f"{host['cpu']}, {host['cores']} cores, load on the same cores; {iso(SystemClock().wall())[:10]}\n")
    print("\n".join(lines))


def servers_of(options: argparse.Namespace) -> list[Server]:
    """Ours first."""
    servers: list[Server] = [Running(*each.split("=", 1)) for each in options.at]
    ours = Side("ours", 19997, stock=False)
    model = options.model or ours.state_dir / STAND_IN
    for side in (ours, Side("stock", 19996, stock=True)):
        side.environment["SLO_MODEL_PATH"] = str(model)
    if not servers:
        servers.append(Launched(OURS, ours))
        if options.model is None:
            del ours.environment["SLO_MODEL_PATH"]  # it writes the stand-in
    if options.stock:
        stock = Side("stock", 19996, stock=True)
        stock.environment["SLO_MODEL_PATH"] = str(model)
        servers.append(Launched("stock Xinference", stock))
    if options.recipes:
        found = sorted(path.stem.removeprefix("start_") for path in options.recipes.glob("start_*.sh"))
        environment = {
            **os.environ,
            "PEERS": str((options.peers or options.recipes).resolve()),
            "MODEL": str(model.resolve()),
        }
        servers += [Rival(name, options.recipes.resolve(), environment) for name in options.rivals or found]
    return servers


def one_round(servers: list[Server], asked: list[Column], number: int, *, alone: bool) -> Round:
    """All columns of all servers: column by column with the servers in turns, or server by server."""
    found: Round = {column.name: {} for column in asked}

    seed = random.randrange(10**6)  # no cache has seen the texts of an earlier run

    def measure(server: Server, column: Column) -> None:
        found[column.name][server.name] = value = column.measure(server.endpoint, seed)
        print(f"{server.name:>20} {value:9.1f} {column.unit}: {column.name}", file=sys.stderr, flush=True)

    turns = servers[number % len(servers) :] + servers[: number % len(servers)]
    if not alone:
        for column in asked:
            for server in turns:
                measure(server, column)
        return found
    for server in turns:
        server.start()
        for column in asked:
            measure(server, column)
        server.stop()
    return found


def table(rounds: list[Round], asked: list[Column]) -> list[str]:
    """Markdown: every round's figure of every server, and how many times better the first is than the best other."""
    names = list(dict.fromkeys(name for each in rounds for column in each.values() for name in column))
    lines = [f"| | {' | '.join(names)} | ours to the best rival |", "|---" * (len(names) + 2) + "|"]
    for column in asked:
        here = [each[column.name] for each in rounds if column.name in each]
        cells = [" · ".join(f"{each[name]:{form(each[name])}}" for each in here if name in each) for name in names]
        lines.append(f"| {column.name}, {column.unit} | {' | '.join(cells)} | {against(here, names, column)} |")
    return lines


def form(value: float) -> str:
    return ".1f" if value < 100 else ".0f"


def against(rounds: list[dict[str, float]], names: list[str], column: Column) -> str:
    """The median ratio, above 1 when ours is better, to the rival to which it is smallest."""
    ratios: dict[str, float] = {}
    for name in names[1:]:
        pairs = [(each[names[0]], each[name]) for each in rounds if names[0] in each and name in each]
        if pairs:
            ratios[name] = statistics.median(other / own if column.lower else own / other for own, other in pairs)
    if not ratios:
        return "–"
    best = min(ratios, key=lambda name: ratios[name])
    return f"{ratios[best]:.2f} ({best})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
