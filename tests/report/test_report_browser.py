"""The HTML report in a real browser, from disk and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from slo.bench.compare import compare
from slo.report.html import html_report
from slo.report.story import tell
from slo.report.strings import Language, Words
from tests.report.made_runs import capacity_run, load_run, run
from tests.visit import visiting


@pytest.mark.parametrize(("language", "scheme"), [("zh", "light"), ("en", "dark")])
def test_the_page_draws_everything_offline(
    browser: Browser, tmp_path: Path, shots: Path, language: Language, scheme: Any
) -> None:
    words = Words(language)
    before, after = run("baseline", 210, id="a"), run("baseline", 95, id="b")
    stories = {
        "compare": tell([before, after], words, compare(before, after)),
        "load": tell([load_run()], words),
        "capacity": tell([capacity_run()], words),
    }
    for name, story in stories.items():
        file = tmp_path / f"{name}.html"
        file.write_text(html_report(story, words), encoding="utf-8")
        with visiting(browser, file.as_uri(), scheme=scheme) as visit:
            plots = visit.page.locator("figure .main-svg")
            expect(plots.first).to_be_visible()
            drawn = visit.page.locator("figure .js-plotly-plot").count()
            assert drawn == sum(len(part.plots) for part in story.parts) > 0
            assert visit.complaints == []
            assert visit.policy_violations() == []
            assert visit.foreign_hosts(file.as_uri()) == set()
            assert visit.serious_findings() == []
            visit.page.screenshot(path=shots / f"report-{name}-{language}.png", full_page=True)
            wide = visit.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0
