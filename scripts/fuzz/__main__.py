"""`make fuzz`: odd requests, hostile connections; no 5xx, no hang, no growing memory. Exit code 0 or 1."""

from __future__ import annotations

import argparse
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import requests
from hypothesis import HealthCheck, Phase, given, seed, settings

from scripts.faults.rig import MODEL, NotSo, Rig, until
from scripts.fuzz.cases import Case, cases
from slo.deploy.state import memory_of, processes_of
from slo.interrupt import ending

PATIENCE_S = 30.0  # for one answer; a hang is longer
SAME_EVERY = 500
GROWTH = 0.10  # of memory, from the first tenth to the end
IDLE, DRIPPING = 2000, 200


class Fuzz:
    """What was sent and what came back."""

    def __init__(self, rig: Rig, *, has_key: bool = True) -> None:
        self.rig = rig
        self.seen: Counter[str] = Counter()
        self.faults: list[str] = []
        self.slowest_s = 0.0
        self.vector = self.ordinary() if has_key else []

    def ordinary(self) -> list[float]:
        """The vector of one text, by an ordinary request."""
        answer = requests.post(
            f"{self.rig.url}/v1/embeddings", json={"model": MODEL, "input": "一个平常的问题"}, timeout=PATIENCE_S
        )
        if not answer.ok:
            raise NotSo(f"an ordinary request: {answer.status_code} {answer.text[:200]}")
        vector: list[float] = answer.json()["data"][0]["embedding"]
        return vector

    def fault(self, what: str, case: Case) -> None:
        """Note it, with what repeats it."""
        self.faults.append(f"{what} after {case.data[:300]!r}{'…' if len(case.data) > 300 else ''}")

    def send(self, case: Case) -> None:
        """One case, on a connection of its own."""
        begun_s, answer = time.monotonic(), b""
        with socket.create_connection(("127.0.0.1", self.rig.port), timeout=PATIENCE_S) as connection:
            with suppress(ConnectionError, BrokenPipeError):
                connection.sendall(case.data)
                if case.broken:
                    connection.shutdown(socket.SHUT_WR)
            try:
                while piece := connection.recv(1 << 16):
                    answer += piece
            except TimeoutError:
                return self.fault(f"no answer in {PATIENCE_S:g} s", case)
            except ConnectionError:
                pass
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun_s)
        status = re.match(rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)?HTTP/1\.[01] (\d{3})", answer)
        self.seen[status[1].decode() if status else "closed"] += 1
        if status is None and not case.broken:
            self.fault("closed without an answer", case)
        elif status is not None and status[1] >= b"500" and not (status[1] == b"501" and b"Transfer-Enc" in case.data):
            self.fault(f"{status[1].decode()}: {answer[-300:]!r}", case)
        elif b"Traceback" in answer:
            self.fault("a traceback", case)
        return None

    def memory(self) -> int:
        """Bytes, of the whole server."""
        return memory_of(processes_of(self.rig.state.instance))

    def same(self) -> None:
        """Ordinary requests are still answered, and alike."""
        now = self.ordinary()
        if sum(a * b for a, b in zip(self.vector, now, strict=True)) < 0.999:
            raise NotSo("another vector than before for the same text")

    def odd_requests(self, count: int, number: int) -> str:
        """The cases, and memory from the first tenth to the end."""
        sent, early = 0, 0

        @seed(number)
        @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(cases())
        def one(case: Case) -> None:
            nonlocal sent, early
            self.send(case)
            sent += 1
            if sent % SAME_EVERY == 0:
                self.same()
            if sent == max(1, count // 10):
                early = self.memory()

        one()
        late = self.memory()
        if early and late > early * (1 + GROWTH):
            self.faults.append(f"memory grew from {early >> 20} to {late >> 20} MiB")
        return f"{sent} requests, slowest {self.slowest_s:.1f} s, {dict(self.seen.most_common())}, " \
               f"memory {early >> 20} → {late >> 20} MiB"  # fmt: skip

    def half_closed(self) -> str:
        """A client that closes its side after its request: to us it has given up, as to most servers; no hang."""
        body = b'{"model":"%s","input":"x"}' % MODEL.encode()
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        answer = b""
        with socket.create_connection(("127.0.0.1", self.rig.port), timeout=PATIENCE_S) as connection:
            connection.sendall(head % len(body) + body)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = connection.recv(1 << 16)
            except TimeoutError:
                self.faults.append("half-closed: neither answered nor closed")
        return answer[:15].decode("ascii", "replace") or "closed at once"

    def crowd(self) -> str:
        """Slow-loris and idle connections, and ordinary requests beside them."""
        socks, over = [], threading.Event()
        for number in range(IDLE + DRIPPING):
            with suppress(OSError):
                each = socket.create_connection(("127.0.0.1", self.rig.port), timeout=PATIENCE_S)
                socks.append(each)
                if number >= IDLE:
                    each.sendall(b"POST /v1/embeddings HTTP/1.1\r\nX-A: ")

        def drip() -> None:
            while not over.wait(1.0):
                for each in socks[IDLE:]:
                    with suppress(OSError):
                        each.sendall(b"a")

        threading.Thread(target=drip, daemon=True).start()
        times = []
        for _ in range(20):
            begun_s = time.monotonic()
            self.same()
            times.append(time.monotonic() - begun_s)
        over.set()
        for each in socks:
            each.close()
        return f"{len(socks)} connections held, 20 ordinary requests answered, slowest {max(times):.2f} s"

    def body_before_key(self) -> str:
        """With authentication, whoever has no key cannot make the server read, let alone keep, a huge body."""
        main = psutil.Process(self.rig.state.pid)
        before, sent = main.memory_info().rss, 0
        with socket.create_connection(("127.0.0.1", self.rig.port), timeout=PATIENCE_S) as connection:
            connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            with suppress(OSError):
                while sent < 1 << 28:
                    connection.sendall(b"%x\r\n" % (1 << 20) + b" " * (1 << 20) + b"\r\n")
                    sent += 1 << 20
            answer = b""
            with suppress(OSError):
                answer = connection.recv(4096)
        grown = main.memory_info().rss - before
        if sent >= 1 << 28 or grown > 64 << 20:
            self.faults.append(f"without a key: {sent >> 20} MiB were taken, memory grew by {grown >> 20} MiB")
        return f"cut off after {sent >> 20} MiB ({answer[:12].decode('ascii', 'replace') or 'closed'}), " \
               f"memory {grown / (1 << 20):+.0f} MiB"  # fmt: skip


def main() -> int:
    """Exit code 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    faults: list[str] = []
    for auth in ("off", "on"):
        with tempfile.TemporaryDirectory(prefix="slo-fuzz-") as folder, Rig(Path(folder), alone=True, auth=auth) as rig:
            if auth == "off":
                until("it serves", rig.served)
                fuzz = Fuzz(rig)
                fuzz.send(Case("", b"GET /slo/livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
                print("half-closed:", fuzz.half_closed(), flush=True)
                print("crowd:", fuzz.crowd(), flush=True)
                print("odd requests:", fuzz.odd_requests(options.cases, options.seed), flush=True)
            else:
                fuzz = Fuzz(rig, has_key=False)
                print("body before the key:", fuzz.body_before_key(), flush=True)
            faults += fuzz.faults
    for fault in faults[:40]:
        print("NOT SO:", fault)
    print(f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        with ending():  # SIGTERM, too, ends what was started here
            sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
