"""
What several passes at a time gain over one with all threads, without any server: tokens/s of both, in turns.

    python scripts/bench_streams.py
    python scripts/bench_streams.py --texts 10x52 2x202 --rounds 15
    python scripts/bench_streams.py --padded DIR/graph.xml

`10x52` is one call of ten texts of 52 tokens. A ratio is the median over the rounds, each of which times every way, in
random order. `--padded` is an ordinary OpenVINO graph (`input_ids`, `attention_mask`, a row per text): it runs all
texts of a call in one pass with all threads, as a rival would.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
import openvino as ov

from slo.deploy.standin import write_standin
from slo.serve.engine.loading import cores, load
from slo.serve.engine.openvino_forward import core, supported_precisions
from slo.serve.engine.packing import Pass
from slo.serve.engine.runtime import Runtime
from slo.serve.engine.tokens import Tokens

CASES = ("1x6", "1x22", "1x52", "1x130", "1x258", "1x512", "2x22", "2x52", "4x52", "8x52", "16x52", "2x202", "2x512")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model directory; default: the stand-in, written when missing")
    parser.add_argument("--cache", type=Path, default=Path(".slo/models"))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--streams", type=int, default=cores())
    parser.add_argument("--texts", nargs="+", default=list(CASES))
    parser.add_argument("--padded", type=Path, help="graph.xml of a padded graph, to compare with")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    model = options.model or options.cache / "bench-stand-in"
    if options.model is None and not model.is_dir():
        write_standin(model, size="full")
    runtime = load(model, options.cache, threads=options.threads, streams=options.streams).runtime
    if runtime.streams < 2:
        parser.error(f"{options.threads} threads make one stream: nothing to compare")
    padded = compiled_padded(options.padded, options.threads) if options.padded else None
    with ThreadPoolExecutor(runtime.streams) as pool:
        for case in options.texts:
            texts, tokens = map(int, case.split("x"))
            ways = {name: way(runtime, [tokens] * texts, pool, narrow=name == "narrow") for name in ("wide", "narrow")}
            if padded is not None:
                ways["padded"] = partial(run_padded, padded, texts, tokens)
            print(f"{case:>8} tokens/s: {compared(ways, texts * tokens, options.rounds)}", flush=True)
    return 0


def compared(ways: dict[str, Callable[[], None]], tokens: int, rounds: int) -> str:
    """Each way's median rate, and how many times faster than the wide way it is."""
    took_s: dict[str, list[float]] = {name: [] for name in ways}
    for act in ways.values():
        act(), act()
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            took_s[name].append(timed_s(ways[name]))
    cells = []
    for name, found_s in took_s.items():
        ratio = statistics.median(wide_s / own_s for wide_s, own_s in zip(took_s["wide"], found_s, strict=True))
        cells.append(f"{name} {tokens / statistics.median(found_s):6.0f} ({ratio:.2f} x)")
    return "   ".join(cells)


def compiled_padded(graph: Path, threads: int) -> ov.InferRequest:
    """With the settings that ours has, all threads on a pass."""
    settings = {
        "INFERENCE_PRECISION_HINT": supported_precisions()["int8"], "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    return core().compile_model(str(graph), "CPU", settings).create_infer_request()


def run_padded(request: ov.InferRequest, texts: int, tokens: int) -> None:
    """One pass of so many texts, their length a multiple of 8 as few kernels want it."""
    ids = np.zeros((texts, min(512, tokens + -tokens % 8)), np.int64)
    mask = np.zeros_like(ids)
    ids[:, :tokens], mask[:, :tokens] = 100, 1
    request.infer({"input_ids": ids, "attention_mask": mask})


def way(runtime: Runtime, lengths: list[int], pool: ThreadPoolExecutor, *, narrow: bool) -> Callable[[], None]:
    """One call of texts of these `lengths`, all threads on each pass or a stream for each."""
    ids = [[(31 * text + 7 * place) % 900 + 100 for place in range(length)] for text, length in enumerate(lengths)]
    tokens = Tokens(ids, [0] * len(ids))
    passes = runtime.batch(tokens, runtime.plan(tokens, narrow=narrow), narrow=narrow).passes

    def work(stream: int, waiting: SimpleQueue[Pass]) -> None:
        try:
            while True:
                runtime.infer(waiting.get_nowait(), stream)
        except Empty:
            return

    def act() -> None:
        if not narrow:
            for packed in passes:
                runtime.infer(packed)
            return
        waiting: SimpleQueue[Pass] = SimpleQueue()
        for packed in passes:
            waiting.put(packed)
        list(pool.map(lambda stream: work(stream, waiting), range(runtime.streams)))

    return act


def timed_s(act: Callable[[], None]) -> float:
    begun_s = time.perf_counter()
    act()
    return time.perf_counter() - begun_s


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
