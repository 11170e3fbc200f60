"""Every figure that the live page promises, in a real browser, against what the server says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, expect

from slo import __version__
from tests.serve.scene import MODEL, Scene, Site, serving
from tests.visit import Visit, visiting


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Twenty minutes of traffic, some of it late, failed, or refused."""
    scene = Scene(tmp_path, wall_s=time.time() // 15 * 15 - 1200)
    scene.play(900, p95_ms=104)
    scene.play(300, p95_ms=148, failing=0.01)
    for _ in range(7):
        scene.telemetry.request(MODEL, "short", "429", cached=False, seconds=0.001)
    scene.telemetry.in_flight = 5
    with serving(scene) as running:
        yield running


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    with visiting(browser, site.address + "/slo/") as opened:
        expect(opened.page.locator("#attainment .value")).to_have_count(3)
        yield opened


def told(site: Site, path: str) -> Any:
    return requests.get(f"{site.address}/slo/api/{path}", timeout=10).json()


def tile(visit: Visit, name: str) -> tuple[str, str]:
    """Figure and hint of one tile."""
    return visit.text(f"#tile-{name} .number"), visit.text(f"#tile-{name} .hint")


def percent(ratio: float, digits: int = 2) -> str:
    """Rounded down, as the page does."""
    scale = 10**digits
    return f"{int(ratio * 100 * scale + 1e-9) / scale:.{digits}f} %"


def test_the_p95_stands_beside_its_interval_its_limit_and_its_neighbours(visit: Visit, site: Site) -> None:
    window = told(site, "board")["window"]
    assert visit.text("#p95") == f"{window['p95_ms']:.0f}"
    assert f"95 % interval {window['p95_low_ms']:.0f}–{window['p95_high_ms']:.0f} ms" in visit.text("#p95-detail")
    beside = visit.text("#beside").split()
    assert beside == ["P50", f"{window['p50_ms']:.1f}", "ms", "P99", f"{window['p99_ms']:.0f}", "ms"]
    assert visit.page.locator("#gauge .limit-label").text_content() == "150 ms"
    late = window["total"] - window["good"]
    assert f"{window['good']:,} of" in visit.text("#sentence") or f"{late:,} of" in visit.text("#sentence")


def test_the_chart_has_both_percentiles_the_limit_and_the_traffic(visit: Visit, site: Site) -> None:
    points = told(site, "history?seconds=900")["points"]
    for line in (".p95", ".p50"):
        drawn = visit.page.locator(f"#timeline path{line}").first.get_attribute("d") or ""
        assert drawn.count("L") + drawn.count("M") == len(points)
    assert visit.page.locator("#timeline .limit-label").first.text_content() == "limit 150 ms"
    most = max(point["total"] for point in points)
    assert visit.page.locator("#timeline").text_content().find(f"Traffic, up to {most:,} per 15 s") >= 0  # type: ignore[union-attr]
    expect(visit.page.locator("#timeline-source")).to_have_text("since the server started")
    assert visit.page.locator("#timeline .bar.bad").get_attribute("d")


def test_the_tiles_repeat_what_the_server_says(visit: Visit, site: Site) -> None:
    board = told(site, "board")
    window, status = board["window"], board["status"]
    failed = window["codes"]["5xx"] + window["codes"]["timeout"]
    assert failed > 0
    assert tile(visit, "success") == (percent(window["count"] / window["total"]), f"{failed} failed · 7 refused")
    assert tile(visit, "inFlight") == ("5", "214 tokens queued")
    assert tile(visit, "batch") == ("96.0", "4.00 texts per batch")
    cache = window["cache"]
    looked_up = cache["hit"] + cache["miss"]
    assert tile(visit, "cacheHits") == ("12.5 %", f"{cache['hit']} of {looked_up}")
    assert tile(visit, "refused") == ("7", "last 5 min")
    rate, hint = tile(visit, "requestRate")
    assert float(rate) == pytest.approx(window["rate_now"], abs=0.1)
    assert hint == f"5 min: {window['rate']:.1f} · max {status['models'][0]['capacity']['requests_per_s']:.1f}"


def test_texts_that_were_cut_are_told_beside_the_batches(site: Site, visit: Visit) -> None:
    def cut() -> None:
        site.scene.telemetry.count("truncated", "texts", amount=3)
        site.scene.telemetry.count("truncated", "characters", amount=1234)

    site.call(cut)
    hint = visit.page.locator("#tile-batch .hint")
    expect(hint).to_have_text("4.00 texts per batch · 3 texts too long, 1,234 characters not read", timeout=60_000)


def test_attainment_budget_and_burn_are_those_of_the_counts(visit: Visit, site: Site) -> None:
    history, window = told(site, "history?seconds=900"), told(site, "board")["window"]
    labels = visit.page.locator("#attainment > div > span:first-child").all_inner_texts()
    assert labels == ["5 min", "1 h", "24 h"]
    shown = visit.page.locator("#attainment .value").all_inner_texts()
    counted = [window, *history["attainment"][1:]]  # the same five minutes as everywhere on the page
    assert shown == [percent(row["good"] / row["total"]) for row in counted]
    budget = history["budget"]
    assert 0 < budget["remaining"] < 1
    left, burn = visit.page.locator("#budget strong").all_inner_texts()
    assert (left, burn) == (percent(budget["remaining"], 1), f"{budget['burn']:.2f}×")


def test_distribution_and_stages_are_whole(visit: Visit, site: Site) -> None:
    window = told(site, "board")["window"]
    titles = visit.page.locator("#distribution title").all_text_contents()
    counts = [int(title.split(": ")[1].split(" ")[0].replace(",", "")) for title in titles]
    assert counts == [count for count in window["histogram"]["counts"] if count]
    assert visit.text("#distribution-hint") == f"{percent(window['good'] / window['total'])} within 150 ms"
    assert visit.page.locator("#distribution .column.bad").count() > 0
    stages = visit.page.locator("#stages .name").all_inner_texts()
    assert stages == ["queue", "tokenise", "engine wait", "infer", "finish", "process hop", "serialise"]
    shown = visit.page.locator("#stages .figure").all_inner_texts()
    assert float(shown[3].removesuffix(" ms")) == pytest.approx(window["stages"]["infer"]["mean_ms"], rel=0.01)


def test_it_says_what_serves_and_since_when(visit: Visit) -> None:
    labels = visit.page.locator("#labels > *").all_inner_texts()
    assert labels == ["stand-in weights", "openvino", "int8", f"v{__version__}"]
    changes = visit.page.locator("#changes li span:nth-child(2)").all_inner_texts()
    assert changes == [f"model served · {MODEL} openvino int8", "server started"]
    assert visit.page.locator("#timeline .mark").count() <= 2
    assert visit.page.locator("#processes th").first.inner_text() == "API"
