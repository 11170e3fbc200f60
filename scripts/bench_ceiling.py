"""
How many requests per second the front door itself can carry: a real Xinference, an engine that computes nothing.

    python scripts/bench_ceiling.py [--connections 50] [--seconds 10] [--rounds 3] [--repeat-texts] [--auth] [--both]

Starts its own server in a temporary home, on a free port, and stops it again. The load generator is a bare protocol
on uvloop: on a small machine it shares the cores with the server, so its own cost would otherwise be measured. It
checks that every answer carries the checksum of its text. `--repeat-texts` asks for one text again and again: the
cache's path. `--both` has a server with authentication beside one without, asked in turn, and gives the ratio of their
medians. `--endpoint` uses a server that runs already (start it with `--keep`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import requests
import uvloop

from slo.stats import nearest_rank

MODEL = "null-model"
HERE = Path(__file__).resolve().parent


class Connection(asyncio.Protocol):
    """One kept-alive connection in a closed loop."""

    def __init__(self, run: Run, index: int) -> None:
        self.run, self.index, self.count = run, index, 0
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:  # uvloop's are no `asyncio.WriteTransport`
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.text = "重复" if self.run.repeat else f"第{self.run.seed}批第{self.index}路第{self.count}句"
        self.count += 1
        body = orjson.dumps({"model": MODEL, "input": self.text})
        self.sent = time.perf_counter()
        self.transport.write(self.run.head % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        start = self.buffer.find(b"content-length: ") + 16
        size = int(self.buffer[start : self.buffer.find(b"\r", start)])
        if len(self.buffer) < end + 4 + size:
            return
        now = time.perf_counter()
        self.run.done(now - self.sent, self.buffer[:12], self.buffer[end + 4 :], self.text)
        self.buffer = b""
        if now < self.run.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.run.open -= 1
        if self.run.open == 0:
            self.run.finished.set_result(None)


class Run:
    """One round: what is sent, and what came back."""

    def __init__(self, options: argparse.Namespace, endpoint: str, key: str | None) -> None:
        host = endpoint.removeprefix("http://")
        secret = f"authorization: Bearer {key}\r\n" if key else ""
        self.address = host.split(":")
        self.head = (
            f"POST /v1/embeddings HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{secret}"
            "content-length: %d\r\n\r\n"
        ).encode()
        self.repeat: bool = options.repeat_texts
        self.seed = secrets.randbelow(10**6)
        self.latencies: list[float] = []
        self.bad = 0
        self.open = options.connections
        self.until = 0.0

    async def __call__(self, seconds: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = loop.create_future()
        started = time.perf_counter()
        self.until = started + seconds
        for index in range(self.open):
            await loop.create_connection(partial(Connection, self, index), self.address[0], int(self.address[1]))
        await asyncio.wait_for(self.finished, seconds + 30)
        took, ordered = time.perf_counter() - started, sorted(self.latencies)
        return {
            "requests_per_s": round(len(ordered) / took, 1),
            "p50_ms": round(nearest_rank(ordered, 0.5) * 1000, 2),
            "p95_ms": round(nearest_rank(ordered, 0.95) * 1000, 2),
            "p99_ms": round(nearest_rank(ordered, 0.99) * 1000, 2),
            "requests": len(ordered),
            "bad": self.bad,
        }

    def done(self, latency: float, status: bytes, body: bytes, text: str) -> None:
        self.latencies.append(latency)
        if not status.endswith(b"200"):
            self.bad += 1
        elif len(self.latencies) % 50 == 0:  # parsing all of them would cost more than the server does
            head = orjson.loads(body)["data"][0]["embedding"][:4]
            self.bad += bytes(round(value * 512) for value in head) != zlib.crc32(text.encode()).to_bytes(4, "little")


@contextmanager
def server(auth: bool, folder: Path | None = None) -> Iterator[tuple[str, str | None]]:
    """A Xinference with the null engine and its home in `folder`; gives its address and a key."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="slo-ceiling-", dir=folder) as home:
        environment = {
            **os.environ, "XINFERENCE_HOME": home, "XINFERENCE_AUTH_ADVANCED": "1" if auth else "0",
            "XINFERENCE_ENABLE_VIRTUAL_ENV": "0", "XINFERENCE_MODEL_SRC": "huggingface", "HF_HUB_OFFLINE": "1",
            "XINFERENCE_EXTENSIONS": "null_engine:create", "PYTHONPATH": f"{HERE}:{HERE.parent}",
        }  # fmt: skip
        (Path(home) / "weights").mkdir()
        admin = Path(home) / "admin.json"
        admin.write_text(json.dumps({"username": "bench", "password": "bench-password"}))
        command = [sys.executable, "-m", "slo.deploy.entry", *(["--admin-file", str(admin)] if auth else []), "--",
                   "-H", "127.0.0.1", "-p", str(port), "--log-level", "WARNING"]  # fmt: skip
        log = Path(home) / "server.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
        endpoint = f"http://127.0.0.1:{port}"
        try:
            yield endpoint, _launch(endpoint, process, log, Path(home) / "weights", auth)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _launch(endpoint: str, process: subprocess.Popen[bytes], log: Path, weights: Path, auth: bool) -> str | None:
    http = requests.Session()
    http.trust_env = False
    deadline = time.monotonic() + 600
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the server did not start:\n{log.read_text()[-3000:]}")
        try:
            if http.get(f"{endpoint}/status", timeout=2).json().get("workers"):
                break
        except (requests.RequestException, ValueError):
            pass
        time.sleep(0.3)
    key = None
    if auth:
        login = {"username": "bench", "password": "bench-password"}
        token = _posted(http, f"{endpoint}/token", login)["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        key = _posted(http, f"{endpoint}/v1/admin/keys", {"name": "bench"})["key"]
    spec = {"model_format": "pytorch", "model_hub": "huggingface", "model_id": None, "model_uri": f"file://{weights}",
            "model_revision": None, "quantization": "none"}  # fmt: skip
    family = {"version": 2, "model_name": MODEL, "dimensions": 768, "max_tokens": 512, "language": ["zh"],
              "model_specs": [spec]}  # fmt: skip
    _posted(http, f"{endpoint}/v1/model_registrations/embedding", {"model": json.dumps(family), "persist": False})
    _posted(http, f"{endpoint}/v1/models", {"model_name": MODEL, "model_type": "embedding", "model_engine": "null"})
    return key


def _posted(http: requests.Session, url: str, body: dict[str, Any]) -> Any:
    response = http.post(url, json=body, timeout=600)
    if not response.ok:
        raise SystemExit(f"{url}: {response.status_code} {response.text[:500]}")
    return response.json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat-texts", action="store_true", help="one text only: measures cache hits")
    parser.add_argument("--auth", action="store_true", help="with Xinference's authentication switched on")
    parser.add_argument("--both", action="store_true", help="without and with authentication, round by round in turn")
    parser.add_argument("--endpoint", help="use this server instead of starting one")
    parser.add_argument("--key", help="API key for --endpoint")
    parser.add_argument("--keep", action="store_true", help="start the server, print its address, serve until Ctrl-C")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped then, too
    if options.endpoint:
        report(options, options.endpoint.rstrip("/"), options.key)
        return
    if options.both:
        with server(auth=False) as (endpoint, _), server(auth=True) as (guarded, key):
            compare(options, [(endpoint, None), (guarded, key)])
        return
    with server(options.auth) as (endpoint, key):
        if options.keep:
            print(f"--endpoint {endpoint}" + (f" --key {key}" if key else ""), flush=True)
            signal.pause()
        report(options, endpoint, key)


def compare(options: argparse.Namespace, sides: list[tuple[str, str | None]]) -> None:
    """Measure two servers in turn, and print both medians and their ratio."""
    uvloop.install()
    found: list[list[float]] = [[], []]
    for number in range(options.rounds + 1):
        for rates, (endpoint, key) in zip(found, sides, strict=True):
            figures = asyncio.run(Run(options, endpoint, key)(options.seconds if number else 2.0))
            if figures["bad"]:
                sys.exit(f"{figures['bad']} bad answers")
            if number:  # the first is the warm-up
                rates.append(figures["requests_per_s"])
    plain, guarded = (statistics.median(rates) for rates in found)
    result = {"plain_per_s": plain, "auth_per_s": guarded, "ratio": round(plain / guarded, 3), "rounds": found}
    print(json.dumps(result) if options.json else f"without {plain}, with authentication {guarded} requests/s: "
          f"{plain / guarded:.2f} times ({found})")  # fmt: skip


def report(options: argparse.Namespace, endpoint: str, key: str | None) -> None:
    """Measure and print."""
    uvloop.install()
    asyncio.run(Run(options, endpoint, key)(2.0))  # warm-up
    rounds = [asyncio.run(Run(options, endpoint, key)(options.seconds)) for _ in range(options.rounds)]
    best = max(rounds, key=lambda figures: figures["requests_per_s"])
    result = {"connections": options.connections, "repeat_texts": options.repeat_texts, "auth": bool(key),
              "rounds": rounds, "best": best}  # fmt: skip
    if options.json:
        print(json.dumps(result))
        return
    for figures in rounds:
        print("  ".join(f"{name} {value}" for name, value in figures.items()))
    print(f"ceiling: {best['requests_per_s']} requests/s, P50 {best['p50_ms']} ms, P95 {best['p95_ms']} ms")


if __name__ == "__main__":
    main()
