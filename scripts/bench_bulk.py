"""
A bulk job beside online traffic, on a real server: does online keep the promise, and what does the job get?

    python scripts/bench_bulk.py --endpoint URL --rate R [--seconds 30] [--rounds 3] [--texts 64] [--workers 4]
                                 [--total 100000] [--said]

Each round has three scenes, in turn: online alone, the job alone, both. Online is an open loop, Poisson arrivals at R
per second (half of the proven capacity, say) of 4, 20 and 50 Chinese characters, a third each. The job is so many
workers in a closed loop, each with requests of so many texts of 50 characters, `--said` with `X-SLO-Class: batch`. All
texts are different. A scene ends after `--seconds`, or when the job's `--total` texts are done.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
from dataclasses import dataclass

import aiohttp

from scripts.bench_overload import Target, session
from slo.clock import SystemClock, iso
from slo.host import host_facts
from slo.stats import nearest_rank

SPECIAL_TOKENS = 2
BULK_LENGTH = 50
LENGTHS = (4, 20, 50)


@dataclass
class Scene:
    """What online got, in seconds (infinite: no good answer), and what the job got."""

    online_s: list[float]
    bulk_tokens: int
    seconds: float

    @property
    def p95_ms(self) -> float:
        return nearest_rank(sorted(self.online_s), 0.95) * 1000 if self.online_s else float("nan")

    @property
    def tokens_per_s(self) -> float:
        return self.bulk_tokens / self.seconds

    def __str__(self) -> str:
        good = sum(took <= 0.150 for took in self.online_s)
        return (
            f"online {len(self.online_s)}, P95 {self.p95_ms:.1f} ms, {good} within 150 ms; "
            f"job {self.tokens_per_s:.0f} tokens/s"
        )


def fresh(source: random.Random, length: int) -> str:
    return "".join(chr(source.randrange(0x4E00, 0x9FA5)) for _ in range(length))


async def scene(target: Target, options: argparse.Namespace, *, rate: float, workers: int) -> Scene:
    """Online at `rate` (0: none) beside so many workers of the job (0: none)."""
    source, online_s, done = random.Random(), list[float](), 0
    begun_s = time.perf_counter()
    end_s = begun_s + options.seconds

    async def one(http: aiohttp.ClientSession, due_s: float) -> None:
        body = {"model": target.model, "input": fresh(source, source.choice(LENGTHS))}
        ok = False
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            async with http.post("/v1/embeddings", json=body) as answer:
                await answer.read()
                ok = answer.status == 200
        online_s.append(time.perf_counter() - due_s if ok else float("inf"))

    async def worker(http: aiohttp.ClientSession) -> None:
        nonlocal done
        headers = {"X-SLO-Class": "batch"} if options.said else {}
        while time.perf_counter() < end_s and done < options.total:
            body = {"model": target.model, "encoding_format": "base64",
                    "input": [fresh(source, BULK_LENGTH) for _ in range(options.texts)]}  # fmt: skip
            async with http.post("/v1/embeddings", json=body, headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    done += options.texts if time.perf_counter() <= end_s else 0
                else:
                    await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))

    async with session(target) as http:
        job = [asyncio.ensure_future(worker(http)) for _ in range(workers)]
        asked, due_s = [], begun_s
        while rate and (due_s := due_s + source.expovariate(rate)) < end_s:
            await asyncio.sleep(due_s - time.perf_counter())
            asked.append(asyncio.ensure_future(one(http, due_s)))
        await asyncio.gather(*asked, *job)
    return Scene(online_s, done * (BULK_LENGTH + SPECIAL_TOKENS), options.seconds)


def main() -> None:
    """Run the scenes in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="a server of ours that runs already")
    parser.add_argument("--rate", type=float, required=True, help="online requests per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=64, help="texts per request of the job")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--total", type=int, default=100_000, help="texts of the job")
    parser.add_argument("--said", action="store_true", help="the job says X-SLO-Class: batch")
    options = parser.parse_args()
    target = Target(options.endpoint.rstrip("/"))
    scenes = {"online alone": (options.rate, 0), "job alone": (0.0, options.workers),
              "both": (options.rate, options.workers)}  # fmt: skip
    found: dict[str, list[Scene]] = {name: [] for name in scenes}
    asyncio.run(scene(target, argparse.Namespace(**{**vars(options), "seconds": 5.0}), rate=5.0, workers=1))  # warm-up
    for number in range(options.rounds):
        for name, (rate, workers) in scenes.items():
            result = asyncio.run(scene(target, options, rate=rate, workers=workers))
            found[name].append(result)
            print(f"{number + 1}/{options.rounds} {name}: {result}", file=sys.stderr, flush=True)
    host = host_facts()
    print(f"{host['cpu']}, {host['cores']} cores, load on the same cores; {iso(SystemClock().wall())[:10]}")
    for name, results in found.items():
        p95, tokens = (
            statistics.median(each) for each in ([r.p95_ms for r in results], [r.tokens_per_s for r in results])
        )
        print(f"{name}: online P95 {p95:.1f} ms, job {tokens:.0f} tokens/s (medians of {options.rounds})")


if __name__ == "__main__":
    main()
