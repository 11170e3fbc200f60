"""
A real server with the tiny stand-in model, a real `slo watch`, users who send four requests a second, and a webhook.

Everything lies below one folder and listens on ports of its own; nothing else on the machine is touched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml

from slo.deploy.keeper_link import living_keeper
from slo.deploy.machine import free_port
from slo.deploy.standin import write_standin
from slo.deploy.state import ServerState, processes_of, read_state

ROOT = Path(__file__).parents[2]
EVERY_S = 0.25
PATIENCE_S = 400.0  # half a minute on a machine with nothing else to do
MODEL = "gte-base-zh"
# Rounds of two seconds; the windows of the alerts shrink with the period.
QUICK = {
    "interval": "2s", "window": "10s", "probes": 20, "budget": {"period": "1h"}, "notify": {"group_interval": "2s"},
    "remediation": {"relaunch_model": False},
}  # fmt: skip


class NotSo(AssertionError):
    """What was expected did not happen."""


def until(what: str, holds: Callable[[], Any], limit_s: float = PATIENCE_S) -> Any:
    """What `holds()` returns, once that is true. Raises `NotSo`."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        with suppress(psutil.Error, requests.RequestException, OSError, ValueError):
            if found := holds():
                return found
        time.sleep(0.1)
    raise NotSo(f"{what}: not within {limit_s:.0f} s")


@dataclass
class Users:
    """Four requests a second, each text another one; what came back, by moment."""

    url: str
    seen: list[tuple[float, str]] = field(default_factory=list)
    wrong: int = 0

    def ask(self, number: int) -> None:
        """One request."""
        sent_s = time.monotonic()
        try:
            body = {"model": MODEL, "input": f"第{number}个问题, {os.getpid()}"}
            answer = requests.post(f"{self.url}/v1/embeddings", json=body, timeout=10)
            kind = "answered" if answer.ok else str(answer.status_code)
            if answer.ok and len(answer.json()["data"][0]["embedding"]) != 128:
                self.wrong += 1
        except requests.Timeout:
            kind = "timed out"
        except requests.RequestException:
            kind = "unreachable"
        self.seen.append((sent_s, kind))

    def since(self, begun_s: float) -> str:
        """What users saw, in words."""
        counts = Counter(kind for sent_s, kind in self.seen if sent_s >= begun_s)
        words = ", ".join(f"{count} × {kind}" for kind, count in counts.most_common() if kind != "answered")
        return f"{counts['answered']} answered" + (f", {words}" if words else "")

    def failed(self, begun_s: float) -> int:
        """How many requests brought nothing."""
        return sum(kind != "answered" for sent_s, kind in self.seen if sent_s >= begun_s)

    def gap_s(self, begun_s: float) -> float:
        """The longest time without an answer."""
        good = [begun_s, *(sent_s for sent_s, kind in self.seen if sent_s >= begun_s and kind == "answered")]
        return max((late - early for early, late in zip(good, [*good[1:], time.monotonic()], strict=True)), default=0.0)


class Hook(ThreadingHTTPServer):
    """A webhook that can be down (503) or slow."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.got: list[tuple[float, str, str]] = []  # when, firing or resolved, title
        self.down = False
        self.delay_s = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def since(self, begun_s: float) -> str:
        """Which alerts arrived."""
        counts = Counter(status for at_s, status, _ in self.got if at_s >= begun_s)
        return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Silent."""


class _Post(_Quiet):
    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(self.server.delay_s)
        if not self.server.down:
            titles = [alert.get("labels", {}).get("alertname", "") for alert in body.get("alerts", [])]
            self.server.got.append((time.monotonic(), body.get("status", "?"), ", ".join(titles)))
        self.send_response(503 if self.server.down else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()


class Rig:
    """One server, one watch, users, a webhook. Use as a context."""

    def __init__(self, folder: Path, *, alone: bool = False, auth: str = "off") -> None:
        """`alone` is the server without watch and users."""
        self.folder = folder
        self._alone, self._auth = alone, auth
        self.state_dir = folder / "state"
        self.log = folder / "model_server.log"
        self.config = folder / "slo.yaml"
        self.hook = Hook()
        self.watch: subprocess.Popen[bytes] | None = None
        self.port = free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}"
        self.users = Users(self.url)
        self._over = threading.Event()

    def __enter__(self) -> Rig:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "tiny").exists():
            write_standin(self.folder / "tiny", size="tiny")
        self.config.write_text(yaml.safe_dump({
            "model": {"path": str(self.folder / "tiny"), "download": False, "stand_in": "tiny"},
            "server": {"port": self.port, "log": str(self.log), "auth": self._auth},
            "state_dir": str(self.state_dir), "watch": QUICK,
            # Nobody listens on port 9: an Alertmanager that is down the whole time.
            "alerts": {"webhook": {"enabled": True}, "alertmanager": {"peers": ["http://127.0.0.1:9"]}},
        }), encoding="utf-8")  # fmt: skip
        self.launch()
        if not self._alone:
            threading.Thread(target=self._send, daemon=True).start()
            self.start_watch()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.end_watch()
        self.command("--stop")

    def _send(self) -> None:
        number = 0
        while not self._over.wait(EVERY_S):
            number += 1
            threading.Thread(target=self.users.ask, args=(number,), daemon=True).start()

    def arguments(self, *options: str) -> list[str]:
        """The command line of a launch."""
        return [sys.executable, str(ROOT / "launch_model_server.py"), "--config", str(self.config), *options]

    def command(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`launch_model_server.py`, to its end; a traceback is never expected."""
        done = subprocess.run(self.arguments(*options), capture_output=True, text=True, check=False, cwd=self.folder)
        if "Traceback" in done.stderr:
            raise NotSo(f"a traceback: {done.stderr[-300:]}")
        return done

    def launch(self, *options: str) -> None:
        """Launch; it must succeed."""
        done = self.command(*options)
        if done.returncode:
            raise NotSo(f"the launch ended with {done.returncode}: {done.stderr[-400:]}")

    def start_watch(self, *program: str) -> subprocess.Popen[bytes]:
        """`slo watch`, beside whatever runs; `program` instead of `-m slo`."""
        command = [sys.executable, *(program or ("-m", "slo")), "watch", "--config", str(self.config)]
        with (self.folder / "watch.txt").open("ab") as said:
            self.watch = subprocess.Popen(
                command, stdout=said, stderr=subprocess.STDOUT, cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "SLO_WEBHOOK_URL": self.hook.url},
            )  # fmt: skip
        self.rounds(1)
        return self.watch

    @property
    def watching(self) -> subprocess.Popen[bytes]:
        """The watch that runs."""
        if self.watch is None or self.watch.poll() is not None:
            raise NotSo("no watch runs")
        return self.watch

    def end_watch(self) -> None:
        """SIGTERM, as a service manager does it."""
        if self.watch is not None and self.watch.poll() is None:
            self.watch.send_signal(signal.SIGCONT)
            self.watch.terminate()
            self.watch.wait(60)

    def fresh_watch(self) -> None:
        """A watch that knows nothing of earlier outages: what fires then is of now."""
        self.end_watch()
        for name in ("history.db*", "outbox.db*", "alerts.jsonl"):
            for file in self.state_dir.glob(name):
                file.unlink()
        self.start_watch()
        self.rounds(4)

    def said(self) -> str:
        """Everything that the watch has printed."""
        return (self.folder / "watch.txt").read_text(encoding="utf-8", errors="replace")

    def rounds(self, count: int) -> None:
        """Wait until the watch has done so many more rounds."""
        before = self.said().count("\n")
        until(f"{count} rounds of the watch", lambda: self.said().count("\n") >= before + count, 120)

    @property
    def state(self) -> ServerState:
        """The recorded server."""
        state = read_state(self.state_dir)
        if state is None:
            raise NotSo("there is no server.json")
        return state

    def engine(self) -> int:
        """Pid of the model process."""
        status = requests.get(f"{self.url}/slo/api/status", timeout=20).json()
        return int(next((r["engine"].get("pid") or 0 for model in status["models"] for r in model["replicas"]), 0))

    def cluster(self) -> int:
        """Pid of Xinference's cluster process, the only child of main with children of its own."""
        return next((child.pid for child in psutil.Process(self.state.pid).children() if child.children()), 0)

    def keeper(self) -> int:
        """Pid of the keeper."""
        facts = living_keeper(self.state_dir)
        return facts.pid if facts else 0

    def served(self) -> bool:
        """Does a request of ours bring a vector now?"""
        body = {"model": MODEL, "input": f"{time.time_ns()}"}
        return requests.post(f"{self.url}/v1/embeddings", json=body, timeout=5).status_code == 200

    def another(self, instance: str) -> None:
        """Wait for another server than `instance`, serving, with nothing of the former one left."""
        until("another server", lambda: self.state.instance != instance)
        until("it serves", self.served)
        until("nothing of the former one is left", lambda: not processes_of(instance), 60)
        until("its keeper says so", lambda: (k := living_keeper(self.state_dir)) and k.next_s is None, 60)

    @contextmanager
    def free_port_taken(self) -> Iterator[None]:
        """Somebody else listens on the server's port."""
        with ThreadingHTTPServer(("127.0.0.1", self.port), _Quiet) as thief:
            threading.Thread(target=thief.serve_forever, daemon=True).start()
            yield
            thief.shutdown()
