"""The live page in a real browser, over scenes that the test plays."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from slo.samples import Sample
from slo.watch.history.event_log import HistoryEvent, write
from slo.watch.history.store import Store
from slo.watch.model.counts import minute_of
from slo.watch.model.objectives import parse_goal
from tests.serve.scene import MODEL, Scene, Site, serving
from tests.visit import Visit, visiting

GREEN, RED = "rgb(15, 115, 81)", "rgb(179, 38, 30)"  # --good and --bad of the light theme

LISTEN = """window.said = [];
const line = document.getElementById("announcement");
new MutationObserver(() => said.push(line.textContent)).observe(line, {childList: true, subtree: true});"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A healthy service after twenty minutes of traffic."""
    scene = Scene(tmp_path, wall_s=time.time() // 15 * 15 - 1200)
    scene.play(1200, p95_ms=104)
    with serving(scene) as running:
        yield running


def assert_clean(visit: Visit, site: Site) -> None:
    """No complaint, no request to anybody else, no attempt against the policy."""
    assert visit.complaints == []
    assert visit.policy_violations() == []
    assert visit.foreign_hosts(site.address) == set()


@pytest.mark.quiet
def test_first_figures_within_a_second(browser: Browser, site: Site) -> None:
    with visiting(browser, "about:blank") as visit:
        started = time.monotonic()
        visit.page.goto(site.address + "/slo/")
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        assert time.monotonic() - started < 1


def test_first_figures_are_equal_to_the_window_route(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        window = site.call(site.scene.window)
        assert visit.text("#p95") == f"{window['p95_ms']:.0f}"
        assert f"{window['good']:,} of {window['total']:,}" in visit.text("#sentence")
        assert f"5 min: {window['total'] / 300:.2f}" in visit.text("#tile-requestRate .hint")
        assert_clean(visit, site)


def test_violation_turns_it_red_and_recovery_green_in_words_too(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        hero, number = visit.page.locator("#hero"), visit.page.locator(".big")
        expect(hero).to_have_attribute("data-state", "met")
        expect(number).to_have_css("color", GREEN)
        site.call(lambda: site.scene.play(300, p95_ms=240))
        expect(hero).to_have_attribute("data-state", "missed", timeout=60_000)
        expect(number).to_have_css("color", RED)
        expect(visit.page.locator("#verdict")).to_have_text("✕Missed")
        assert visit.page.title().startswith("✕")
        site.call(lambda: site.scene.play(330, p95_ms=90))
        expect(hero).to_have_attribute("data-state", "met", timeout=60_000)
        expect(number).to_have_css("color", GREEN)
        expect(visit.page.locator("#announcement")).to_contain_text("met")
        assert_clean(visit, site)


def test_the_verdict_is_announced_when_it_changes_and_only_then(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        visit.page.evaluate(LISTEN)
        site.call(lambda: site.scene.play(30, p95_ms=100))
        visit.page.wait_for_timeout(2600)
        assert visit.page.evaluate("said") == []
        site.call(lambda: site.scene.play(300, p95_ms=240))
        expect(visit.page.locator("#verdict-word")).to_have_text("Missed", timeout=60_000)
        assert len(visit.page.evaluate("said")) == 1


def test_it_survives_a_restart_of_the_server(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        connection = visit.page.locator("#connection")
        expect(connection).to_have_attribute("data-state", "connected")
        site.stop()
        expect(connection).to_have_text("reconnecting…", timeout=60_000)
        expect(visit.page.locator("#notice")).to_contain_text("trying again", timeout=60_000)
        site.start()
        expect(connection).to_have_attribute("data-state", "connected", timeout=60_000)
        expect(visit.page.locator("#notice")).to_be_hidden()


def test_language_switches_and_is_remembered(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/", language="zh-CN") as visit:
        expect(visit.page.locator("#verdict-word")).to_have_text("达标")
        assert visit.page.locator("html").get_attribute("lang") == "zh-CN"
        visit.page.locator("#language").click()
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        expect(visit.page.locator("#announcement")).to_contain_text("within the limit")
        visit.page.reload()
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        assert not re.search(r"[一-鿿]", visit.text("main"))
        assert_clean(visit, site)


def test_theme_follows_the_system_until_it_is_switched(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/", scheme="dark") as visit:
        body = visit.page.locator("body")
        expect(body).to_have_css("background-color", "rgb(13, 17, 23)")
        visit.page.locator("#theme").click()
        expect(body).to_have_css("background-color", "rgb(243, 245, 248)")
        visit.page.reload()
        expect(body).to_have_css("background-color", "rgb(243, 245, 248)")


def test_the_keyboard_reaches_everything_and_reads_the_chart(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        page = visit.page
        expect(page.locator("#range button")).to_have_count(5)
        reached = []
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.className.baseVal"
                                         " || document.activeElement.textContent"))  # fmt: skip
        assert reached[0] == "Skip to content"
        assert {"language", "theme", "timeline", "Live", "Similarity", "1 h"} <= set(reached)
        page.locator("#timeline svg").focus()
        for key in ("ArrowLeft", "ArrowLeft"):
            page.keyboard.press(key)
        expect(page.locator("#timeline .tip")).to_contain_text("P95")
        page.keyboard.press("Escape")
        expect(page.locator("#timeline .tip")).to_be_hidden()
        page.locator("#range button").nth(1).press("Enter")
        expect(page.locator("#range button").nth(1)).to_have_attribute("aria-pressed", "true")
        assert_clean(visit, site)


def test_with_authentication_it_asks_once_and_keeps_the_key_for_the_tab_only(browser: Browser, site: Site) -> None:
    site.scene.key = "sk-of-this-test"
    with visiting(browser, site.address + "/slo/") as visit:
        page = visit.page
        expect(page.locator("#key-dialog")).to_be_visible()
        assert visit.text("#p95") == "–"
        page.locator("#key-input").fill("sk-wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-dialog")).to_be_visible(timeout=60_000)
        page.locator("#key-input").fill("sk-of-this-test")
        page.keyboard.press("Enter")
        expect(page.locator("#verdict-word")).to_have_text("Met", timeout=60_000)
        page.reload()
        expect(page.locator("#verdict-word")).to_have_text("Met")
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie").find("sk-") == -1
        assert "sk-" not in page.content()
        page.locator("#key").click()
        expect(page.locator("#key-dialog")).to_be_visible()
        assert all("sk-" not in request.url for request in visit.requests)
        assert visit.policy_violations() == []


def test_alerts_changes_and_replicas_that_are_missing_are_told_in_words(
    browser: Browser, site: Site, tmp_path: Path
) -> None:
    now_s = site.scene.clock.wall()
    with Store(tmp_path / "history.db") as store:
        minute = minute_of([Sample(0.0, 0.0, 0.05, "ok", "short")], start_s=int(now_s // 60 * 60) - 60,
                           source="passive", thresholds_ms=[150])  # fmt: skip
        store.record([minute], [parse_goal("latency", "p95 <= 150ms")])
        for at_s, subject, text in (
            (now_s - 900, "LatencyBudgetBurn/latency/critical", "firing"),
            (now_s - 600, "LatencyBudgetBurn/latency/critical", "resolved"),
            (now_s - 120, "NoData", "firing"),
        ):
            write(store, HistoryEvent(at_s=at_s, kind="alert", subject=subject, text=text))
        write(store, HistoryEvent(at_s=now_s - 50, kind="change", subject="batch", text="512 → 1024"))
    site.scene.lane.states = {f"{MODEL}-0": "READY", f"{MODEL}-2": "LOADING", f"{MODEL}-3": "READY"}
    with visiting(browser, site.address + "/slo/") as visit:
        alerts = visit.page.locator("#alerts li")
        expect(alerts).to_have_count(2)
        firing, resolved = alerts.all_inner_texts()
        assert re.fullmatch(r"firing\s+nothing measured\s+since \d\d:\d\d", firing)
        assert re.fullmatch(r"resolved\s+latency budget burning · latency · critical\s+\d\d:\d\d–\d\d:\d\d", resolved)
        expect(visit.page.locator("#timeline-source")).to_have_text("since the server started")
        visit.page.locator("#range button", has_text="1 h").click()  # further back than this process goes
        expect(visit.page.locator("#timeline-source")).to_have_text("from the watcher's history")
        expect(visit.page.locator("#changes li").first).to_contain_text("batch 512 → 1024")
        expect(visit.page.locator("#timeline .mark title").last).to_contain_text("batch 512 → 1024")
        states = [text.split("\t")[:2] for text in visit.page.locator("#replicas tr").all_inner_texts()]
        expected = zip(range(4), ("ready", "ready", "loading", "down"), strict=True)
        assert states == [[f"{MODEL}-{number}", state] for number, state in expected]
        assert visit.serious_findings() == []
        assert_clean(visit, site)


def test_a_hidden_tab_does_not_ask(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        visit.page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
        visit.page.wait_for_timeout(2500)
        asked = len(site.scene.asked)
        visit.page.wait_for_timeout(2500)
        assert len(site.scene.asked) == asked


def test_the_page_is_light(browser: Browser, site: Site) -> None:
    with visiting(browser, site.address + "/slo/") as visit:
        expect(visit.page.locator("#verdict-word")).to_have_text("Met")
        sizes = [request.sizes() for request in visit.requests]
        assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) < 200_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("p95_ms", [90, 240], ids=["met", "missed"])
def test_accessibility_has_no_serious_finding(browser: Browser, site: Site, scheme: Any, p95_ms: float) -> None:
    site.call(lambda: site.scene.play(300, p95_ms=p95_ms))
    with visiting(browser, site.address + "/slo/", scheme=scheme) as visit:
        expect(visit.page.locator("#tiles .number").first).not_to_be_empty()
        assert visit.serious_findings() == []


@pytest.mark.parametrize(
    ("language", "scheme", "size"),
    [("zh-CN", "light", (1440, 900)), ("en-US", "dark", (1920, 1080)), ("zh-CN", "dark", (390, 844))],
    ids=["desktop", "wall", "phone"],
)
def test_nothing_sticks_out_and_a_picture_is_taken(
    browser: Browser, site: Site, shots: Path, language: str, scheme: Any, size: tuple[int, int]
) -> None:
    with visiting(browser, site.address + "/slo/", language=language, scheme=scheme, size=size) as visit:
        expect(visit.page.locator("#verdict-word")).to_have_text("达标" if language == "zh-CN" else "Met")
        visit.page.wait_for_timeout(500)
        visit.page.screenshot(path=shots / f"live-{size[0]}-{scheme}-{language}.png", full_page=True)
        wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide == 0
