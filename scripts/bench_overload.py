"""
What overload does to callers, on a real server: `shed` and `defer` in turns, scene by scene.

    python scripts/bench_overload.py [--endpoint URL] [--rounds 3] [--seconds 30] [--rate R] [--out overload.md]

* bursts of 64 threads × 2 and 256 × 1 requests by openai-python with its two retries: answered, lost, how long
* 50 closed-loop callers without retries (20 ms after a refusal they ask again): in time, failed, longest wait
* three times the capacity, open loop, Poisson arrivals; the capacity is what the server itself has measured

Texts have 40 Chinese characters and are all different. Without `--endpoint` a server is started on the configured
model and stopped at the end. Takes about ten minutes; leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
import requests

from scripts.bench_side import Side
from slo.clock import SystemClock, iso
from slo.host import host_facts

LENGTH = 40
LIMIT_S = 0.150
POLICIES = ("shed", "defer")
TAG = {"X-SLO-Source": "bench"}


@dataclass
class Tally:
    """What became of the requests of one scene."""

    seconds: float = 0.0
    answered_s: list[float] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)

    @property
    def in_time(self) -> int:
        return sum(took_s <= LIMIT_S for took_s in self.answered_s)

    def fail(self, what: str) -> None:
        self.lost[what] = self.lost.get(what, 0) + 1

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {what}" for what, count in sorted(self.lost.items())) or "none"
        longest_s = max(self.answered_s, default=0.0)
        return (
            f"{len(self.answered_s)} answered, {self.in_time} in time ({self.in_time / self.seconds:.1f}/s), "
            f"lost: {lost}; {self.seconds:.2f} s, longest {longest_s:.2f} s"
        )


class Target:
    """The server under test."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.model: str = self.status()["models"][0]["model"]
        self._numbers = itertools.count(random.randrange(10**9))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = requests.get(f"{self.endpoint}/slo/api/status", timeout=10).json()
        return found

    def policy(self, policy: str) -> None:
        order = {"action": "admission", "policy": policy}
        requests.post(f"{self.endpoint}/slo/api/control", json=order, timeout=10).raise_for_status()

    def text(self) -> str:
        """Another one each time, of Chinese characters: one token each."""
        source = random.Random(next(self._numbers))
        return "".join(chr(source.randrange(0x4E00, 0x9FA5)) for _ in range(LENGTH))

    def capacity(self) -> float:
        """Requests per second, from the cost of tokens as the server has learnt it."""
        return float(self.status()["models"][0]["capacity"]["tokens_per_s"]) / (LENGTH + 2)


def burst(target: Target, threads: int, each: int) -> Tally:
    """All threads at once, each with its requests in turn, through one client as people use it."""
    tally, lock, gate = Tally(), threading.Lock(), threading.Barrier(threads)
    client = openai.OpenAI(base_url=f"{target.endpoint}/v1", api_key="none", default_headers=TAG)

    def caller() -> None:
        gate.wait()
        for _ in range(each):
            begun_s = time.perf_counter()
            try:
                client.embeddings.create(model=target.model, input=target.text())
            except openai.OpenAIError as error:
                with lock:
                    tally.fail(type(error).__name__)
            else:
                with lock:
                    tally.answered_s.append(time.perf_counter() - begun_s)

    begun_s = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(caller) for _ in range(threads)]:
            future.result()
    tally.seconds = time.perf_counter() - begun_s
    client.close()
    return tally


async def ask(http: aiohttp.ClientSession, target: Target, tally: Tally, due_s: float) -> bool:
    """One request without retries, timed from when it was due."""
    try:
        async with http.post("/v1/embeddings", json={"model": target.model, "input": target.text()}) as answer:
            await answer.read()
            if answer.status == 200:
                tally.answered_s.append(time.perf_counter() - due_s)
                return True
            tally.fail(f"HTTP {answer.status}")
    except (aiohttp.ClientError, asyncio.TimeoutError) as error:
        tally.fail(type(error).__name__)
    return False


def session(target: Target) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        target.endpoint, connector=aiohttp.TCPConnector(limit=0), headers=TAG, timeout=aiohttp.ClientTimeout(60)
    )


async def closed(target: Target, callers: int, seconds: float) -> Tally:
    """Everybody asks again at once."""
    tally, end_s = Tally(seconds), time.perf_counter() + seconds

    async def caller(http: aiohttp.ClientSession) -> None:
        while (now_s := time.perf_counter()) < end_s:
            if not await ask(http, target, tally, now_s):
                await asyncio.sleep(0.02)

    async with session(target) as http:
        await asyncio.gather(*(caller(http) for _ in range(callers)))
    return tally


async def opened(target: Target, rate: float, seconds: float) -> Tally:
    """Poisson arrivals, whatever the server says."""
    tally, chance, tasks = Tally(seconds), random.Random(7), []
    due_s = time.perf_counter()
    end_s = due_s + seconds
    async with session(target) as http:
        while (due_s := due_s + chance.expovariate(rate)) < end_s:
            await asyncio.sleep(due_s - time.perf_counter())
            tasks.append(asyncio.ensure_future(ask(http, target, tally, due_s)))
        await asyncio.gather(*tasks)
    return tally


def main() -> None:
    """Run all scenes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", help="a server of ours that runs already")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, help="open loop, requests per second (default: thrice the capacity)")
    parser.add_argument("--out", type=Path, help="write the table here as well")
    options = parser.parse_args()
    if options.endpoint:
        text = measured(Target(options.endpoint), options)
    else:
        side = Side("overload", 19995, stock=False)
        try:
            side.launch()
            text = measured(Target(side.endpoint), options)
        finally:
            side.stop()
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def measured(target: Target, options: argparse.Namespace) -> str:
    """All scenes under both policies in turns; the table."""
    target.policy("shed")
    asyncio.run(closed(target, 2, 10.0))  # until its cost is learnt
    rate = options.rate or 3 * target.capacity()
    scenes: dict[str, Callable[[], Tally]] = {
        "burst 64 × 2": lambda: burst(target, 64, 2),
        "burst 256 × 1": lambda: burst(target, 256, 1),
        "50 closed-loop callers": lambda: asyncio.run(closed(target, 50, options.seconds)),
        f"open loop, {rate:.0f}/s": lambda: asyncio.run(opened(target, rate, options.seconds)),
    }
    found: dict[tuple[str, str], list[Tally]] = {}
    for number, (scene, policy) in itertools.product(range(options.rounds), itertools.product(scenes, POLICIES)):
        target.policy(policy)
        time.sleep(4.0)  # what was asked for before is forgotten
        asyncio.run(closed(target, 2, 4.0))  # and what it cost while others had the processor
        tally = scenes[scene]()
        found.setdefault((scene, policy), []).append(tally)
        print(f"{number + 1}/{options.rounds} {scene}, {policy}: {tally}", file=sys.stderr, flush=True)
    target.policy("defer")
    host = host_facts()
    lines = [
        f"{host['cpu']}, {host['cores']} cores, callers on the same cores; {iso(SystemClock().wall())[:10]}. "
        f"Medians of {options.rounds} rounds.",
        "",
        "| scene | policy | answered | in time/s | lost | seconds | longest wait, s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {scene} | {policy} | {_row(found[scene, policy])} |" for scene in scenes for policy in POLICIES]
    api = next(process for process in target.status()["processes"] if process["name"] == "api")
    lines += ["", f"Memory of the API process afterwards: {api['memory_bytes'] / 2**20:.0f} MiB."]
    return "\n".join(lines) + "\n"


def _row(tallies: list[Tally]) -> str:
    def middle(values: list[float], places: int = 0) -> str:
        return f"{statistics.median(values):.{places}f}"

    return " | ".join([
        middle([len(t.answered_s) for t in tallies]), middle([t.in_time / t.seconds for t in tallies], 1),
        middle([sum(t.lost.values()) for t in tallies]), middle([t.seconds for t in tallies], 2),
        middle([max(t.answered_s, default=0.0) for t in tallies], 2),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
