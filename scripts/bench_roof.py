"""
The machine's roof: int8 matrix products per second in the model's own shapes, and the requests that would allow.

    python scripts/bench_roof.py
    python scripts/bench_roof.py --rows 64 160 512 --json

Runs the products of a BERT-base encoder and nothing else, through OpenVINO as the engine does, on all cores. The
figure that counts is the best of the medians over the row counts, which are those of real passes (160 is the default
cap). Takes some seconds; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from slo.bench.costing import tokens_of
from slo.bench.roof import GIGA, Encoder, Roof, measure_roof
from slo.serve.engine.loading import cores
from slo.serve.engine.openvino_forward import cpu_kind, supported_precisions
from slo.texts import CLASSES

ROWS = (64, 160, 240)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), help="tokens at a time")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--seconds", type=float, default=3.0, help="per row count")
    parser.add_argument("--tokens", type=float, help="mean tokens of a request (default: of the mix)")
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of a table")
    options = parser.parse_args(arguments)
    tokens = options.tokens or fmean(tokens_of(name) for name in CLASSES)
    hint = supported_precisions()["int8"]
    roofs = [
        measure_roof(Encoder(), rows, threads=options.threads, hint=hint, seconds=options.seconds)
        for rows in options.rows
    ]
    result = summary(roofs, tokens)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        show(roofs, result)
    return 0


def summary(roofs: list[Roof], tokens: float) -> dict[str, Any]:
    """The roof as plain data; `gop_per_s` and `requests_per_s` are those of the best row count."""
    best = max(roofs, key=lambda roof: roof.gop_per_s)
    return {
        "host": {"cpu": cpu_kind(), "cores": cores(), "load_1m": round(os.getloadavg()[0], 2)},
        "gop_per_s": round(best.gop_per_s, 1),
        "rows": best.rows,
        "kernels": list(best.kernels),
        "gop_per_token": round(best.encoder.operations_per_token / GIGA, 4),
        "tokens_per_request": round(tokens, 2),
        "requests_per_s": round(best.requests_per_s(tokens), 1),
        "measured": [roof.to_json() for roof in roofs],
    }


def show(roofs: list[Roof], result: dict[str, Any]) -> None:
    host = result["host"]
    table = Table(title=f"int8 matrix products · {host['cpu']} · {host['cores']} cores · load {host['load_1m']}")
    for name in ("rows", "threads", "GOP/s", "best", "requests/s"):
        table.add_column(name, justify="right")
    for roof in roofs:
        most = roof.requests_per_s(result["tokens_per_request"])
        cells = (roof.rows, roof.threads, f"{roof.gop_per_s:.0f}", f"{roof.best_gop_per_s:.0f}", f"{most:.0f}")
        table.add_row(*map(str, cells))
    console = Console(width=max(Console().width, 110))
    console.print(table)
    console.print(
        f"roof: {result['gop_per_s']:.0f} GOP/s; at {result['gop_per_token']:.3f} GOP per token and "
        f"{result['tokens_per_request']:.1f} tokens per request, {result['requests_per_s']:.0f} requests/s at most"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
