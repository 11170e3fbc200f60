"""The pages in a real browser on a real Xinference whose authentication is on: one key, asked for once, for one tab."""

from __future__ import annotations

import pytest
import requests
from playwright.sync_api import Browser, expect

from scripts.bench_ceiling import MODEL
from tests.serve.guarded import Guarded
from tests.visit import Visit, visiting

pytestmark = [pytest.mark.server, pytest.mark.shares("the server with authentication")]
WRONG = "xf-of-somebody-else"


def asked_for_data(visit: Visit) -> list[str]:
    """Paths of requests for data that left the page."""
    return [request.url for request in visit.requests if "/slo/api/" in request.url or "embeddings" in request.url]


def enter(visit: Visit, key: str) -> None:
    """Type the key into the dialog."""
    visit.page.locator("#key-input").fill(key)
    visit.page.keyboard.press("Enter")


@pytest.mark.parametrize("path", ["/slo/api/board", "/slo/api/history"])
def test_what_the_page_asks_for_is_given_to_nobody_without_a_key(guarded: Guarded, path: str) -> None:
    endpoint, key = guarded.endpoint, guarded.key
    assert requests.get(endpoint + path, timeout=60).status_code == 401
    wrong = {"Authorization": f"Bearer {WRONG}"}
    assert requests.get(endpoint + path, timeout=60, headers=wrong).status_code == 401
    right = {"Authorization": f"Bearer {key}"}
    assert requests.get(endpoint + path, timeout=60, headers=right).status_code == 200


def test_without_a_key_the_page_asks_for_one_and_for_nothing_else(browser: Browser, guarded: Guarded) -> None:
    with visiting(browser, guarded.endpoint + "/slo/") as visit:
        expect(visit.page.locator("#key-dialog")).to_be_visible()
        expect(visit.page.locator("#key-input")).to_be_focused()
        assert visit.serious_findings() == []
        visit.page.wait_for_timeout(3000)
        assert asked_for_data(visit) == []
        assert visit.text("#p95") == "–"
        assert visit.complaints == []
        visit.page.keyboard.press("Escape")
        expect(visit.page.locator("#key-dialog")).to_be_hidden()
        visit.page.locator("#key").click()
        expect(visit.page.locator("#key-dialog")).to_be_visible()


def test_a_wrong_key_is_explained_and_forgotten_and_not_tried_again(browser: Browser, guarded: Guarded) -> None:
    with visiting(browser, guarded.endpoint + "/slo/", language="zh-CN") as visit:
        expect(visit.page.locator("#key-dialog")).to_be_visible()
        enter(visit, WRONG)
        expect(visit.page.locator("#key-reason")).to_have_text("服务器不接受这个 key，请检查后再试。")
        expect(visit.page.locator("#key-dialog")).to_be_visible()
        visit.page.wait_for_timeout(5000)
        assert len(asked_for_data(visit)) <= 2  # board and history, once
        assert visit.page.evaluate("sessionStorage.length") == 0
        asked = len(visit.requests)
        enter(visit, "不是 key 的文字")
        expect(visit.page.locator("#key-reason")).to_contain_text("不接受")
        assert len(visit.requests) == asked  # no header can carry it


def test_the_right_key_shows_live_numbers_on_both_pages_in_this_tab_and_no_other(
    browser: Browser, guarded: Guarded
) -> None:
    endpoint, key = guarded.endpoint, guarded.key
    headers = {"Authorization": f"Bearer {key}"}
    for number in range(80):
        body = {"model": MODEL, "input": f"第{number}句"}
        assert requests.post(f"{endpoint}/v1/embeddings", json=body, headers=headers, timeout=60).status_code == 200
    with visiting(browser, endpoint + "/slo/") as visit:
        enter(visit, key)
        expect(visit.page.locator("#key-dialog")).to_be_hidden()
        expect(visit.page.locator("#connection")).to_have_attribute("data-state", "connected")
        window = requests.get(f"{endpoint}/slo/api/window", headers=headers, timeout=60).json()
        expect(visit.page.locator("#sentence")).to_contain_text(f"{window['good']} of {window['total']}")
        assert float(visit.text("#p95")) == pytest.approx(window["p95_ms"], rel=0.01)
        visit.page.reload()
        expect(visit.page.locator("#connection")).to_have_attribute("data-state", "connected")
        visit.page.locator("#pages a", has_text="Similarity").click()
        visit.page.locator("#examples button").first.click()
        expect(visit.page.locator("#score .number")).to_be_visible()
        assert visit.complaints == []
        assert visit.policy_violations() == []
        assert visit.foreign_hosts(endpoint) == set()
        kept = visit.page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        assert key not in kept + visit.page.content()
        assert all(key not in request.url + (request.post_data or "") for request in visit.requests)
        other_tab = visit.page.context.new_page()
        other_tab.goto(endpoint + "/slo/similarity")
        expect(other_tab.locator("#key-dialog")).to_be_visible()
        visit.page.locator("#key").click()  # forget it
        expect(visit.page.locator("#key-dialog")).to_be_visible()
        assert key not in visit.page.evaluate("JSON.stringify(sessionStorage)")
