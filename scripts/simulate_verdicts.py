"""
How often a verdict is wrong, over simulated services whose truth is known: `python -m scripts.simulate_verdicts`.

Each line is one service with a true share of late requests (as a multiple of what P95 allows) and one size of run; its
figures say in how many of the runs the verdict was a false "met" (true share at or above the allowed one) or a false
"missed" (below it). "Method alone" leaves out the least duration. Stalls are judged by an objective whose longest stall
is theirs, where that is above the default of one second; what happens to who does not say so stands below the table,
with the chance of proving "met" within a minute at 85 % of each queue's capacity.

Takes three quarters of an hour on two cores; `--runs` and `--sizes` for less, `--services` and `--save FILE` for a part
of it, `--read FILE` for the table of all parts. `--calibrate` prints the tables of `simulated_services`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from scripts import simulated_services as simulated
from scripts.simulated_services import THRESHOLD_S, Floats, Service, services
from slo.bench.verdict import conclude
from slo.objective import Objective, Verdict

SIZES = (200, 500, 1000, 2000, 5000, 10_000, 20_000)
SHARES = (0.95, 1.0, 1.05, 1.2)  # of what the objective allows
AT_ONCE = 1_000_000  # latencies drawn at a time
STALL_S = 1.0  # the default of the setting longest_stall
POWER_LOAD, POWER_S = 0.85, 60.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Shares of the runs that were called met and missed, with and without a least duration."""

    service: str
    multiple: float
    n: int
    seconds: float
    seen: float  # share of late requests over all runs
    met: float
    missed: float
    met_alone: float

    @property
    def wrong(self) -> float:
        return self.met if self.multiple >= 1 else self.missed


def judged(latencies_s: Sequence[Floats] | Floats, seconds: float, objective: Objective) -> tuple[float, float]:
    """Shares of the rows that are called met, and missed."""
    verdicts = []
    for row in latencies_s:
        bad, latencies_ms = (row > THRESHOLD_S).tolist(), (row * 1000).tolist()
        verdicts.append(conclude(bad, objective, latencies_ms=latencies_ms, seconds=seconds).verdict)
    return verdicts.count(Verdict.MET) / len(verdicts), verdicts.count(Verdict.MISSED) / len(verdicts)


def drawn(service: Service, share: float, runs: int, n: int, seed: int) -> Iterable[Floats]:
    """`runs` rows in parts that fit into memory."""
    source = np.random.default_rng([seed, n])
    at_once = max(1, AT_ONCE // n)
    for first in range(0, runs, at_once):
        yield service.draw(share, min(at_once, runs - first), n, source)


def cell(name: str, multiple: float, n: int, runs: int, seed: int, stall_s: float | None = None) -> Cell:
    """One cell of the table; `stall_s` for an objective that asks for another longest stall than the service's."""
    service = next(s for s in services() if s.name == name)
    share = multiple * Objective().budget
    seconds = n / service.rate(share)
    objective = Objective(longest_stall_s=max(STALL_S, service.spell_s) if stall_s is None else stall_s)
    parts = list(drawn(service, share, runs, n, seed))
    alone = [(*judged(part, math.inf, objective), len(part)) for part in parts]
    met, missed = (sum(part[i] * part[2] for part in alone) / runs for i in (0, 1))
    long_enough = seconds >= objective.least_s
    return Cell(
        service=name, multiple=multiple, n=n, seconds=seconds, met=met if long_enough else 0.0, missed=missed,
        met_alone=met, seen=float(np.mean([float((part > THRESHOLD_S).mean()) for part in parts])),
    )  # fmt: skip


def power(runs: int, seed: int) -> dict[str, float]:
    """How often a minute at 85 % of its capacity proves each queue to meet P95."""
    found, objective, limit = {}, Objective(longest_stall_s=STALL_S), Objective().budget
    for service in services()[:3]:
        rate = POWER_LOAD * service.rate(limit)
        n, source = math.ceil(rate * POWER_S), np.random.default_rng(seed)
        if service.name == "batch service":
            rows = simulated.batch_latencies(rate, runs, n, source)
        else:
            share = {"M/M/1": simulated.mm1_share, "M/D/1": simulated.md1_share}[service.name](rate)
            rows = np.concatenate(list(drawn(service, share, runs, n, seed)))
        found[service.name] = judged(rows, POWER_S, objective)[0]
    return found


def table(cells: Sequence[Cell]) -> list[str]:
    """Markdown: for each service and share the wrong verdicts by size, in per cent; in brackets the method alone."""
    sizes = sorted({c.n for c in cells})
    lines = ["| service | true share | wrong | " + " | ".join(f"n = {n}" for n in sizes) + " |"]
    lines.append("|---|---|---|" + "---|" * len(sizes))
    for name in dict.fromkeys(c.service for c in cells):
        for multiple in dict.fromkeys(c.multiple for c in cells):
            row = {c.n: c for c in cells if (c.service, c.multiple) == (name, multiple)}
            texts = []
            for n in sizes:
                found = row[n]
                extra = f" ({found.met_alone:.1%})" if multiple >= 1 and found.met_alone != found.met else ""
                texts.append(f"{found.wrong:.1%}{extra}")
            wrong = "met" if multiple >= 1 else "missed"
            lines.append(f"| {name} | {multiple:g} × 5% | {wrong} | " + " | ".join(texts) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a figure in it is above 5 % by more than chance (two standard errors)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--sizes", type=lambda text: tuple(map(int, text.split(","))), default=SIZES)
    parser.add_argument("--services", default="", help="only those whose name contains one of these, by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="append the cells to this file, a line each")
    parser.add_argument("--read", type=Path, help="print what such a file holds")
    parser.add_argument("--calibrate", action="store_true")
    given = parser.parse_args(arguments)
    if given.calibrate:
        simulated.calibrate(np.random.default_rng(given.seed))
        return 0
    if given.read:
        return told([Cell(**json.loads(line)) for line in given.read.read_text().splitlines()], given.runs)
    names = [s.name for s in services() if any(part in s.name for part in given.services.split(","))]
    wanted = [(name, multiple, n) for name in names for multiple in SHARES for n in given.sizes]
    with ProcessPoolExecutor() as pool:
        work = partial(cell, runs=given.runs, seed=given.seed)
        cells = list(pool.map(work, *zip(*wanted, strict=True)))
    if given.save:
        with given.save.open("a") as file:
            file.writelines(json.dumps(asdict(found)) + "\n" for found in cells)
        return 0
    status = told(cells, given.runs)
    print(f"\nmet within {POWER_S:g} s at {POWER_LOAD:.0%} of capacity: ", end="")
    print(", ".join(f"{name} {share:.1%}" for name, share in power(given.runs, given.seed).items()))
    least = 20_000
    for name in (s.name for s in services() if s.spell_s > STALL_S and s.name in names and least in given.sizes):
        found = cell(name, 1.0, 2000, given.runs, given.seed, stall_s=STALL_S)
        print(f"{name}, longest_stall left at {STALL_S:g} s, a run of {found.seconds:.0f} s: met {found.met:.1%}")
    return status


def told(cells: Sequence[Cell], runs: int) -> int:
    """Print the table and its worst figure; 1 if that is above 5 % by more than chance (two standard errors)."""
    print("\n".join(table(cells)))
    worst = max(cells, key=lambda c: c.wrong)
    print(f"worst: {worst.wrong:.1%} ({worst.service}, {worst.multiple:g}, n = {worst.n})")
    return int(worst.wrong > 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs))


if __name__ == "__main__":
    sys.exit(main())
