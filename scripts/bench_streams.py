"""
What several passes at a time gain over one with all threads, without any server: tokens/s of both, in turns.

    python scripts/bench_streams.py
    python scripts/bench_streams.py --texts 10x52 2x202 --rounds 15

`10x52` is one call of ten texts of 52 tokens. The ratio is the median over the rounds, each of which times both ways.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue

from slo.deploy.standin import write_standin
from slo.serve.engine.loading import cores, load
from slo.serve.engine.packing import Pass
from slo.serve.engine.runtime import Runtime
from slo.serve.engine.tokens import Tokens

CASES = ("1x22", "2x22", "2x52", "4x52", "8x52", "2x202", "4x202", "2x510")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model directory; default: the stand-in, written when missing")
    parser.add_argument("--cache", type=Path, default=Path(".slo/models"))
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--streams", type=int, default=cores())
    parser.add_argument("--texts", nargs="+", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    model = options.model or options.cache / "bench-stand-in"
    if options.model is None and not model.is_dir():
        write_standin(model, size="full")
    runtime = load(model, options.cache, threads=options.threads, streams=options.streams).runtime
    if runtime.streams < 2:
        parser.error(f"{options.threads} threads make one stream: nothing to compare")
    with ThreadPoolExecutor(runtime.streams) as pool:
        for case in options.texts:
            texts, tokens = map(int, case.split("x"))
            wide, narrow = (way(runtime, [tokens] * texts, pool, narrow=narrow) for narrow in (False, True))
            wide(), narrow()
            rounds = [(timed_s(wide), timed_s(narrow)) for _ in range(options.rounds)]
            wide_s, narrow_s = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = statistics.median(one / other for one, other in rounds)
            rates = f"{texts * tokens / wide_s:7.0f} {texts * tokens / narrow_s:7.0f}"
            print(f"{case:>8} tokens/s wide, narrow: {rates}   narrow is {ratio:.2f} x as fast", flush=True)
    return 0


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
