"""
What a pass costs on this machine: milliseconds by tokens, precision and threads, without any server.

    python scripts/bench_engine.py
    python scripts/bench_engine.py --precision int8 --threads 2 --tokens 22 52 160 --json
    python scripts/bench_engine.py --device cuda --tokens 52 512 2048

Texts of 20 tokens are packed as the engine packs them. `switching` is the same pass after one of another shape, as
mixed traffic brings them; `first` is what a shape costs that was never run before. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import openvino as ov
from rich.console import Console
from rich.table import Table

from slo.deploy.standin import write_standin
from slo.serve.engine.fidelity import Precision
from slo.serve.engine.loading import Workshop, cores
from slo.serve.engine.openvino_forward import OpenVinoForward, cpu_kind, supported_precisions
from slo.serve.engine.packing import Pass, Shapes, pack
from slo.serve.engine.runtime import Forward
from slo.serve.engine.torch_forward import DTYPES, TorchForward

TOKENS = (6, 22, 52, 80, 160, 240, 512)
TEXT_TOKENS = 20
OTHER = 34  # tokens of the pass in between, of a shape that is not measured
GIGA_OPERATIONS_PER_TOKEN = 0.17  # of BERT-base: two per weight of the encoder


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the grid; milliseconds, medians over the time given."""

    precision: str
    threads: int
    tokens: int
    shape: int
    best_ms: float
    median_ms: float
    switching_ms: float
    first_ms: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.median_ms * 1000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model directory; default: the stand-in, written when missing")
    parser.add_argument("--cache", type=Path, default=Path(".slo/models"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", nargs="+", help="default: all that the device runs natively")
    parser.add_argument("--threads", nargs="+", type=int, default=sorted({cores(), 1}, reverse=True))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS))
    parser.add_argument("--seconds", type=float, default=1.0, help="per cell and way of measuring")
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of a table")
    options = parser.parse_args(arguments)
    model = options.model or options.cache / "bench-stand-in"
    if options.model is None and not model.is_dir():
        write_standin(model, size="full")
    native: list[Precision] = list(supported_precisions()) if options.device == "cpu" else list(DTYPES)
    if unknown := sorted(set(options.precision or ()) - set(native)):
        parser.error(f"{options.device} runs {', '.join(native)}, not {', '.join(unknown)}")
    workshop = Workshop(model, options.cache, progress=lambda what, share: print(what, share, file=sys.stderr))
    rows = [
        row
        for precision in options.precision or native
        for threads in (options.threads if options.device == "cpu" else [0])
        for row in measure(workshop, precision, threads, options.tokens, options.seconds)
    ]
    if options.json:
        facts = {"cpu": cpu_kind(), "machine": platform.machine(), "cores": cores(), "openvino": ov.__version__}
        print(json.dumps({"host": facts, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        show(rows)
    return 0


def measure(workshop: Workshop, precision: Precision, threads: int, tokens: list[int], seconds: float) -> Iterator[Row]:
    """Rows of one precision and thread count; 0 threads: on the GPU."""
    forward: Forward
    if threads:
        hint = supported_precisions()[precision]
        forward = OpenVinoForward(workshop.graph(precision), hint=hint, threads=threads, compiled=None)
    else:
        forward = TorchForward(workshop.files, device="cuda", precision=precision)
    shapes = Shapes.up_to(max(240, *tokens), 512)
    between = packed_texts(OTHER, workshop, shapes)
    forward(between)
    for count in tokens:
        packed = packed_texts(count, workshop, shapes)
        act, switch = partial(forward, packed), partial(forward, between)
        first_ms = timed(act)
        steady = repeat(act, lambda: None, seconds)
        mixed = repeat(act, switch, seconds)
        yield Row(
            precision=precision,
            threads=threads,
            tokens=count,
            shape=len(packed.ids),
            best_ms=min(steady),
            median_ms=statistics.median(steady),
            switching_ms=statistics.median(mixed),
            first_ms=first_ms,
        )


def packed_texts(tokens: int, workshop: Workshop, shapes: Shapes) -> Pass:
    """Texts of 20 tokens, the last one shorter, `tokens` in all."""
    lengths = [TEXT_TOKENS] * (tokens // TEXT_TOKENS) + [tokens % TEXT_TOKENS] * (tokens % TEXT_TOKENS > 0)
    ids = [[(31 * text + 7 * place) % 900 + 100 for place in range(length)] for text, length in enumerate(lengths)]
    files = workshop.files
    return pack(ids, range(len(ids)), shapes, pooling=files.pooling, first_position=files.first_position)


def repeat(act: Callable[[], object], before: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of `act`, again and again for so long, at least five times; `before` is not counted."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < 5:
        before()
        found.append(timed(act))
    return found


def timed(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1000


def show(rows: list[Row]) -> None:
    load = os.getloadavg()[0]
    table = Table(title=f"One pass, ms · {cpu_kind()} · {cores()} cores · load average {load:.1f}")
    for name in (
        "precision",
        "threads",
        "tokens",
        "shape",
        "best",
        "median",
        "switching",
        "first",
        "tokens/s",
        "GOP/s",
    ):
        table.add_column(name, justify="left" if name == "precision" else "right")
    for row in rows:
        times = (row.best_ms, row.median_ms, row.switching_ms, row.first_ms)
        rate = row.tokens_per_s * GIGA_OPERATIONS_PER_TOKEN
        cells = [row.precision, row.threads, row.tokens, row.shape, *(f"{value:.2f}" for value in times)]
        table.add_row(*map(str, cells), f"{row.tokens_per_s:.0f}", f"{rate:.0f}")
    Console(width=max(Console().width, 110)).print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
