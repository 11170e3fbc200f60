"""`/slo/runbook`: the runbook on the server itself, in both languages, one tap from a message."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from slo.serve.site.pages import page_routes
from slo.serve.site.runbook import NAMES

ROOT = Path(__file__).parents[3]
ALERTS = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()), base_url="http://slo.test", follow_redirects=False)


@pytest.mark.parametrize(
    ("query", "wish", "lang"),
    [
        ("?lang=zh", "en", "zh-CN"),
        ("?lang=en", "zh-CN,zh;q=0.9", "en"),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("", "en-GB,en;q=0.9", "en"),
        ("", "fr", "zh-CN"),
        ("?lang=../../etc", "en", "en"),
    ],
)
def test_the_language_is_that_of_the_link_or_of_the_browser(
    client: TestClient, query: str, wish: str, lang: str
) -> None:
    answer = client.get(f"/slo/runbook{query}", headers={"accept-language": wish})
    assert answer.status_code == 200
    assert f'<html lang="{lang}">' in answer.text


@pytest.mark.parametrize("language", NAMES)
def test_every_alert_has_its_anchor_in_both_languages(client: TestClient, language: str) -> None:
    page = client.get(f"/slo/runbook?lang={language}").text
    assert len(ALERTS) >= 11
    for alert in ALERTS:
        assert f'<h2 id="{alert.lower()}">{alert}</h2>' in page
        assert f'href="#{alert.lower()}"' in page
    assert "<table>" in page
    assert "<script" not in page
    assert ".md" not in re.sub(r"<[^>]+>", "", page).split("burn-rates")[0][:400]


def test_it_is_cached_by_its_tag_and_as_strict_as_the_other_pages(client: TestClient) -> None:
    first = client.get("/slo/runbook?lang=zh")
    again = client.get("/slo/runbook?lang=zh", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert "default-src 'none'" in first.headers["content-security-policy"]
    assert first.headers["etag"] != client.get("/slo/runbook?lang=en").headers["etag"]


def test_a_wheel_carries_its_text(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No module named hatchling" in done.stderr:
        pytest.fail("hatchling is not installed: uv sync --group build")
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"slo/serve/site/{name}" for name in NAMES.values()} <= names
