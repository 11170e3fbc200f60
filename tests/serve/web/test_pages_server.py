"""The pages on the real server: Xinference with our extension, under load, through a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect

from slo.client import EmbeddingsClient
from tests.servers import Server
from tests.visit import visiting

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]


@contextmanager
def traffic(server: Server) -> Iterator[None]:
    """One client that asks without pause."""
    over = threading.Event()

    def ask() -> None:
        with EmbeddingsClient(server.endpoint, server.model) as client:
            for number in count():
                if over.is_set():
                    return
                client.embed(f"第{number}个句子")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join(30)


def test_the_page_shows_what_the_window_route_says_while_load_runs(
    browser: Browser, server: Server, shots: Path
) -> None:
    with visiting(browser, server.endpoint + "/slo/") as visit, traffic(server):
        total = visit.page.locator("#distribution svg")
        expect(total).to_be_visible()
        expect(visit.page.locator("#p95")).not_to_have_text("–", timeout=60_000)  # the policy forbids eval
        visit.page.wait_for_timeout(7_000)
        expect(visit.page.locator("#attainment .value").first).to_contain_text("%")
        visit.page.screenshot(path=shots / "real-server.png", full_page=True)
    with visiting(browser, server.endpoint + "/slo/") as visit:  # at rest, so that both speak of the same requests
        expect(visit.page.locator("#p95")).not_to_have_text("–", timeout=60_000)  # the policy forbids eval
        shown = visit.text("#p95")
        window = requests.get(server.endpoint + "/slo/api/window?seconds=300", timeout=10).json()
        p95_ms = window["p95_ms"]
        assert float(shown) == pytest.approx(p95_ms, rel=0.03)
        assert visit.text("#model") == server.model
        assert visit.page.locator("#replicas tr").count() == 1
        expect(visit.page.locator("#verdict-word")).not_to_have_text("No data")
        assert visit.complaints == []
        assert visit.policy_violations() == []
        assert visit.foreign_hosts(server.endpoint) == set()


def test_similarity_by_clicking_on_the_real_model(browser: Browser, server: Server) -> None:
    with visiting(browser, server.endpoint + "/slo/similarity", language="zh-CN") as visit:
        visit.page.locator("#examples button").last.click()
        expect(visit.page.locator("#ranking li")).to_have_count(5, timeout=60_000)
        scores = [float(text) for text in visit.page.locator("#ranking .value").all_inner_texts()]
        assert scores == sorted(scores, reverse=True)
        assert all(-1 <= score <= 1 for score in scores)
        expect(visit.page.locator("#heatmap td").first).to_be_visible()
        assert visit.complaints == []
        assert visit.policy_violations() == []
        assert visit.foreign_hosts(server.endpoint) == set()


def test_the_texts_of_the_similarity_page_are_in_no_log(browser: Browser, server: Server) -> None:
    secret = "这句话不该出现在日志里"
    with visiting(browser, server.endpoint + "/slo/similarity") as visit:
        visit.page.locator("#text-a").fill(secret)
        visit.page.locator("#text-b").fill("另一句")
        visit.page.locator("#compare").click()
        expect(visit.page.locator("#score .number")).to_be_visible(timeout=60_000)
    found = [
        path for path in [server.log, *server.state_dir.rglob("*.log")]
        if path.is_file() and secret in path.read_text(encoding="utf-8", errors="replace")
    ]  # fmt: skip
    assert found == []
