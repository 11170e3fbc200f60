"""What `slo watch` puts together: who is given the API key, and what the heartbeat depends on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from slo.cli.options import Context
from slo.cli.watch_parts import composed_watcher
from slo.clock import SystemClock
from slo.config import Config
from slo.objective import Objective
from slo.watch.delivery.dispatcher import Dispatcher
from slo.watch.heartbeat import read_beat
from slo.watch.sli.golden import Golden
from slo.watch.sli.probe import ProbeTally


class Listener(ThreadingHTTPServer):
    """Answers every GET with `{}`; `heard` are path and Authorization of each."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_GET(self) -> None:
        self.server.heard.append((self.path.partition("?")[0], self.headers["Authorization"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listeners() -> Iterator[tuple[Listener, Listener]]:
    with Listener() as one, Listener() as two:
        for listener in (one, two):
            threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield one, two
        for listener in (one, two):
            listener.shutdown()


class NoProbes:
    """Nobody probes."""

    def harvest(self) -> ProbeTally:
        return ProbeTally(Objective())

    def pace(self, full: bool) -> None:
        pass


def a_round(folder: Path, **settings: Any) -> list[str]:
    """One round of a watch that keeps its state in `folder`; what it complained of."""
    config = Config().replaced(**{"state_dir": folder, "alerts.console.enabled": False, **settings})
    ctx, said = Context(config=config, out=Console(), err=Console(stderr=True), json=False), list[str]()
    golden = Golden(config.endpoint, config.model.name)
    with composed_watcher(
        ctx, NoProbes(), golden, clock=SystemClock(), config_path=None, complain=said.append
    ) as watcher:
        watcher.round()
    return said


def test_the_api_key_goes_to_the_model_server_and_not_to_prometheus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listeners: tuple[Listener, Listener]
) -> None:
    server, prometheus = listeners
    monkeypatch.setenv("SLO_API_KEY", "the-key")
    source = {"watch.source.kind": "prometheus", "watch.source.prometheus_url": prometheus.url}
    a_round(tmp_path, **{"server.endpoint": server.url, **source})
    assert {key for _, key in prometheus.heard} == {None}
    assert ("/v1/models", "Bearer the-key") in server.heard


@pytest.mark.parametrize("at_work", [True, False])
def test_the_heartbeat_says_that_the_courier_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_work: bool
) -> None:
    monkeypatch.setattr(Dispatcher, "at_work", lambda _: at_work)
    said = a_round(tmp_path, **{"server.endpoint": "http://127.0.0.1:1", "watch.source.kind": "probe"})
    assert (read_beat(tmp_path) is not None) is at_work
    assert any("no alert can be sent" in line for line in said) is not at_work
