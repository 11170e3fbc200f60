"""The similarity page in a real browser, by clicking and by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from slo.client import cosine
from tests.serve.scene import Scene, Site, serving, vector_of
from tests.visit import visiting


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A service with trained weights, as far as the page is told."""
    with serving(Scene(tmp_path, stand_in=False)) as running:
        yield running


def address(site: Site) -> str:
    return site.address + "/slo/similarity"


def test_a_click_on_an_example_shows_score_latency_and_level(browser: Browser, site: Site) -> None:
    with visiting(browser, address(site)) as visit:
        visit.page.locator("#examples button").first.click()
        expect(visit.page.locator("#score .number")).to_be_visible()
        a, b = site.scene.embedded
        assert visit.text("#score .number") == f"{cosine(vector_of(a), vector_of(b)):.4f}"
        assert "2 texts" in visit.text("#took")
        assert "within 150 ms" in visit.text("#took")
        assert visit.complaints == []
        assert visit.policy_violations() == []
        assert visit.foreign_hosts(site.address) == set()


def test_one_against_many_is_ranked_and_drawn_as_a_heat_map(browser: Browser, site: Site) -> None:
    lines = ["今天天气真不错", "数据库索引", "今天天气不错"]
    with visiting(browser, address(site), language="zh-CN") as visit:
        visit.page.locator("#text-a").fill("今天天气真不错")
        visit.page.locator("#text-b").fill("\n".join(lines) + "\n\n")
        visit.page.keyboard.press("Control+Enter")
        expect(visit.page.locator("#ranking li")).to_have_count(3)
        shown = visit.page.locator("#ranking .text").all_inner_texts()
        assert shown == ["今天天气真不错", "今天天气不错", "数据库索引"]
        cells = visit.page.locator("#heatmap tbody td").all_inner_texts()
        assert len(cells) == 16
        assert cells[1] == "1.00"
        assert visit.complaints == []


def test_the_texts_go_nowhere_but_into_the_one_call(browser: Browser, site: Site) -> None:
    secret = "只属于我的一句话"
    with visiting(browser, address(site)) as visit:
        visit.page.locator("#text-a").fill(secret)
        visit.page.locator("#text-b").fill("另一句话")
        visit.page.locator("#compare").click()
        expect(visit.page.locator("#score .number")).to_be_visible()
        carrying = [request for request in visit.requests if secret in (request.post_data or "") + request.url]
        assert [request.method for request in carrying] == ["POST"]
        assert all(secret not in request.url for request in visit.requests)
        assert secret not in visit.page.evaluate("JSON.stringify([localStorage, sessionStorage, location.href])")


@pytest.mark.parametrize(
    ("status", "words"),
    [(429, "retry in 2 s"), (500, "ran into an error"), (404, "still be loading"), (413, "shorten")],
)
def test_a_failure_is_told_kindly(browser: Browser, site: Site, status: int, words: str) -> None:
    site.scene.answer = status
    with visiting(browser, address(site)) as visit:
        visit.page.locator("#examples button").first.click()
        expect(visit.page.locator("#problem")).to_contain_text(words)
        expect(visit.page.locator("#answer")).to_be_hidden()
        site.scene.answer = 200
        visit.page.locator("#compare").click()
        expect(visit.page.locator("#score .number")).to_be_visible()
        expect(visit.page.locator("#problem")).to_be_hidden()


def test_a_server_that_is_gone_is_told_kindly(browser: Browser, site: Site) -> None:
    with visiting(browser, address(site)) as visit:
        expect(visit.page.locator("#connection")).to_have_attribute("data-state", "connected")
        site.stop()
        visit.page.locator("#examples button").first.click()
        expect(visit.page.locator("#problem")).to_contain_text("does not answer")
        site.start()


def test_missing_and_too_many_texts_are_pointed_out_without_a_call(browser: Browser, site: Site) -> None:
    with visiting(browser, address(site)) as visit:
        visit.page.locator("#compare").click()
        expect(visit.page.locator("#problem")).to_contain_text("fill in text A")
        visit.page.locator("#text-a").fill("一")
        visit.page.locator("#text-b").fill("\n".join("二" * (i + 1) for i in range(70)))
        visit.page.locator("#compare").click()
        expect(visit.page.locator("#problem")).to_contain_text("remove 6")
        assert site.scene.embedded == []


def test_markup_in_a_text_stays_text(browser: Browser, site: Site) -> None:
    text = "<img src=x onerror=alert(1)>"
    with visiting(browser, address(site)) as visit:
        visit.page.locator("#text-a").fill(text)
        visit.page.locator("#text-b").fill(f"{text}\n<b>二</b>")
        visit.page.locator("#compare").click()
        expect(visit.page.locator("#ranking .text").first).to_have_text(text)
        assert visit.page.locator("main img, main b").count() == 0
        assert visit.policy_violations() == []


def test_the_key_is_asked_for_and_used(browser: Browser, site: Site) -> None:
    site.scene.key = "sk-of-this-test"
    with visiting(browser, address(site)) as visit:
        visit.page.locator("#key-input").fill("sk-of-this-test")
        visit.page.keyboard.press("Enter")
        expect(visit.page.locator("#key-dialog")).to_be_hidden()
        visit.page.locator("#examples button").first.click()
        expect(visit.page.locator("#score .number")).to_be_visible()


def test_stand_in_weights_claim_no_meaning(browser: Browser, tmp_path: Path) -> None:
    with serving(Scene(tmp_path, stand_in=True)) as site, visiting(browser, address(site)) as visit:
        visit.page.locator("#examples button").first.click()
        expect(visit.page.locator("#meaning")).to_contain_text("not meaning")
        expect(visit.page.locator(".chip.loud")).to_have_text("stand-in weights")
        expect(visit.page.locator("#score .level-word")).to_have_text("")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_and_a_picture(browser: Browser, site: Site, shots: Path, scheme: Any) -> None:
    for size in ((1440, 900), (390, 844)):
        with visiting(browser, address(site), scheme=scheme, size=size) as visit:
            visit.page.locator("#examples button").last.click()
            expect(visit.page.locator("#heatmap td").first).to_be_visible()
            assert visit.serious_findings() == []
            visit.page.screenshot(path=shots / f"similarity-{size[0]}-{scheme}.png", full_page=True)
            wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0
