"""The live page in a real browser while a real Xinference works, and while it fails its objective and recovers."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect
from rich.console import Console

from slo.cli.alert import live_service
from slo.client import EmbeddingsClient
from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.status import stop
from slo.errors import RequestError
from tests.servers import Server
from tests.visit import visiting

pytestmark = [pytest.mark.server, pytest.mark.shares("the server for drills")]
GREEN, RED = "rgb(15, 115, 81)", "rgb(179, 38, 30)"  # --good and --bad of the light theme


@contextmanager
def traffic(server: Server, clients: int = 1) -> Iterator[None]:
    """Clients that ask without pause, for texts that nobody has asked for."""
    over = threading.Event()

    def ask() -> None:
        with EmbeddingsClient(server.endpoint, server.model) as client:
            for number in count(time.time_ns()):
                if over.is_set():
                    return
                with suppress(RequestError):
                    client.embed(f"{threading.get_ident()}的第{number}个句子")

    asking = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in asking:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in asking:
            thread.join(30)


def test_every_process_and_every_replica_of_the_server_is_on_the_page(browser: Browser, drilled: Server) -> None:
    with visiting(browser, drilled.endpoint + "/slo/") as visit:
        rows = visit.page.locator("#processes tr")
        expect(rows.filter(has_text="all together")).to_be_visible()
        names = visit.page.locator("#processes th").all_inner_texts()
        assert names == ["API", "supervisor + worker", "fork server", f"{drilled.model}-rep0", "all together"]
        expect(rows.first).to_contain_text(" %", timeout=60_000)
        assert all("MiB" in text or "GiB" in text for text in rows.all_inner_texts())
        assert "≤" not in visit.text("#processes")
        expect(visit.page.locator("#replicas tr")).to_have_text([f"{drilled.model}-rep0ready0"])


def test_while_load_runs_the_page_shows_what_the_window_route_says(browser: Browser, drilled: Server) -> None:
    with visiting(browser, drilled.endpoint + "/slo/") as visit, traffic(drilled):
        expect(visit.page.locator("#connection")).to_have_attribute("data-state", "connected")
        for _ in range(3):
            with visit.page.expect_response(lambda response: response.url.endswith("/slo/api/board")) as got:
                pass
            told = got.value.json()["window"]
            window = requests.get(f"{drilled.endpoint}/slo/api/window", timeout=10).json()
            shown = f"{told['good']:,} of {told['total']:,}"
            expect(visit.page.locator("#sentence")).to_contain_text(shown)
            newer = 2.0 * max(told["rate"], 300.0)  # whatever a moment of load can add
            assert told["total"] <= window["total"] <= told["total"] + newer
            assert window["p95_ms"] == pytest.approx(told["p95_ms"], rel=0.5)
            assert visit.text("#p95").replace("–", "") in (f"{told['p95_ms']:.{d}f}" for d in (0, 1, 2))
            assert visit.text("#tile-cacheHits .hint").endswith(f"of {sum(told['cache'].values()):,}")
        assert visit.complaints == []


def test_a_slow_server_turns_the_page_red_and_a_quick_one_green(browser: Browser, drilled: Server, shots: Path) -> None:
    with visiting(browser, drilled.endpoint + "/slo/") as visit, live_service(drilled.config) as service:
        hero, number = visit.page.locator("#hero"), visit.page.locator(".big")
        expect(visit.page.locator("#connection")).to_have_attribute("data-state", "connected")
        service.slow_down(0.2)
        with traffic(drilled, clients=8):
            expect(hero).to_have_attribute("data-state", "missed", timeout=60_000)
            expect(number).to_have_css("color", RED)
            expect(visit.page.locator("#verdict")).to_have_text("✕Missed")
            visit.page.screenshot(path=shots / "real-violation.png", full_page=True)
            service.heal()
            expect(hero).to_have_attribute("data-state", "met", timeout=180_000)  # when 95 % are good again
            expect(number).to_have_css("color", GREEN)
        assert visit.complaints == []


def test_the_page_survives_a_restart_of_the_server(browser: Browser, drilled: Server) -> None:
    with visiting(browser, drilled.endpoint + "/slo/") as visit:
        connection = visit.page.locator("#connection")
        expect(connection).to_have_attribute("data-state", "connected")
        stop(drilled.config, say=lambda _: None)
        expect(connection).to_have_attribute("data-state", "reconnecting", timeout=60_000)
        launch(drilled.config, Progress(Console(file=io.StringIO())))
        expect(connection).to_have_attribute("data-state", "connected", timeout=60_000)
        expect(visit.page.locator("#notice")).to_be_hidden()
        expect(visit.page.locator("#replicas tr")).to_contain_text("ready", timeout=60_000)
