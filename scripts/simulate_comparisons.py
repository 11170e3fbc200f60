"""
How often `slo compare` finds a difference between equal services: `python -m scripts.simulate_comparisons`.

Pairs of runs of each simulated service, with the share of late requests that P95 allows and with
a fifth of it. Each figure is the share of pairs with a significant difference (5 % are allowed), and after it the
share where the second is called slower, which is when `--against` exits with 1. `--powers` prints instead how often a
service that is half as slow again is found to be slower.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from scripts.simulated_services import services
from slo.bench import compare

SIZES = (200, 1000, 5000)
SHARES = (0.05, 0.01)
ERROR = 0.05
ALLOWED = 0.06
RESAMPLES = 500  # of each comparison here


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """Shares of the pairs."""

    service: str
    share: float
    n: int
    different: float
    slower: float


def alarms(name: str, share: float, n: int, *, pairs: int, seed: int, factor: float = 1.0) -> Alarms:
    """One cell; `factor` makes the second of each pair slower."""
    service = next(s for s in services() if s.name == name)
    rows = service.draw(share, 2 * pairs, n, np.random.default_rng([seed, n]))
    draw, found = np.random.default_rng(seed), []
    before = compare.RESAMPLES
    compare.RESAMPLES = RESAMPLES
    try:
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            found.append(compare.ratio_interval(first, second * factor, ERROR, draw))
    finally:
        compare.RESAMPLES = before
    slower = sum(low > 1 for low, _ in found) / pairs
    return Alarms(
        service=name, share=share, n=n, slower=slower, different=slower + sum(high < 1 for _, high in found) / pairs
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if more than 6 % of all pairs of equal services differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--services", default="", help="only those whose name contains one of these, by commas")
    parser.add_argument("--sizes", type=lambda text: tuple(map(int, text.split(","))), default=SIZES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--powers", action="store_true")
    given = parser.parse_args(arguments)
    names = [s.name for s in services() if any(part in s.name for part in given.services.split(","))]
    wanted = [(name, share, n) for name in names for share in SHARES for n in given.sizes]
    work = partial(alarms, pairs=given.pairs, seed=given.seed, factor=1.5 if given.powers else 1.0)
    with ProcessPoolExecutor() as pool:
        cells = list(pool.map(work, *zip(*wanted, strict=True)))
    print("| service | late | " + " | ".join(f"n = {n}" for n in given.sizes) + " |")
    print("|---|---|" + "---|" * len(given.sizes))
    for name in names:
        for share in SHARES:
            row = [c for c in cells if (c.service, c.share) == (name, share)]
            print(f"| {name} | {share:.0%} | " + " | ".join(f"{c.different:.1%}, {c.slower:.1%}" for c in row) + " |")
    mean = sum(c.different for c in cells) / len(cells)
    print(f"mean {mean:.1%}, worst {max(c.different for c in cells):.1%}")
    return int(not given.powers and mean > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
