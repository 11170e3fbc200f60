"""The files under `/slo/`, without a browser: headers, caching, weight, and that nothing foreign is named."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from slo.serve.web.pages import FOLDER, MEDIA_TYPES, NAMES, page_routes


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=page_routes()), base_url="http://slo.test", follow_redirects=False)


ADDRESSES = [route.path for route in page_routes() if route.path != "/slo"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_file_comes_with_a_policy_that_allows_this_origin_only(client: TestClient, address: str) -> None:
    answer = client.get(address)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert answer.status_code == 200
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_known_file_is_not_sent_again(client: TestClient, address: str) -> None:
    etag = client.get(address).headers["etag"]
    again = client.get(address, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_the_folder_without_slash_leads_to_the_page_also_behind_a_proxy(client: TestClient) -> None:
    answer = client.get("/slo")
    assert (answer.status_code, answer.headers["location"]) == (308, "slo/")


def test_the_pages_name_no_other_host() -> None:
    namespaces = {"http://www.w3.org/2000/svg"}
    for path in FOLDER.iterdir():
        found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'<)]*", path.read_text(encoding="utf-8")))
        assert found <= namespaces, path.name


def test_no_file_lacks_a_media_type_and_all_together_are_light() -> None:
    files = list(FOLDER.iterdir())
    assert {path.suffix for path in files} <= set(MEDIA_TYPES)
    assert sum(path.stat().st_size for path in files) < 150_000


def test_no_markup_carries_inline_script_or_style() -> None:
    for path in FOLDER.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]*\ssrc=)", text), path.name


def test_no_script_builds_markup_from_text() -> None:
    for path in FOLDER.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\.innerHTML|outerHTML|insertAdjacentHTML|\beval\(|new Function|document\.write\(", text)


def test_every_word_is_there_in_both_languages_with_the_same_figures() -> None:
    text = (FOLDER / "words.js").read_text(encoding="utf-8")
    pairs = re.findall(r'^\s+"?([\w.]+)"?: \[\s*"((?:[^"\\]|\\.)*)",\s*"((?:[^"\\]|\\.)*)",?\s*\]', text, re.MULTILINE)
    assert len(pairs) > 100
    for key, chinese, english in pairs:
        assert set(re.findall(r"\{\w+\}", chinese)) == set(re.findall(r"\{\w+\}", english)), key


def test_every_word_that_a_page_names_is_in_the_dictionary() -> None:
    known = set(re.findall(r'^\s+"?([\w.]+)"?: \[', (FOLDER / "words.js").read_text(encoding="utf-8"), re.MULTILINE))
    for path in [*FOLDER.glob("*.html"), *FOLDER.glob("*.js")]:
        text = path.read_text(encoding="utf-8")
        named = re.findall(r'data-(?:word|hint|ghost)"?[=:]\s*"(\w+)"', text) + re.findall(r'\bsay\("([\w.]+)"', text)
        assert set(named) <= known, path.name


ROOT = Path(__file__).parents[3]
ALERTS = re.findall(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE)


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


def test_lines_of_chinese_join_without_a_blank(client: TestClient) -> None:
    page = client.get("/slo/runbook?lang=zh").text
    assert not re.findall(r"[，。；：、]\n[^<]", page.partition("<main")[2])
    assert client.get("/slo/runbook?lang=en").text.count(">中文</a>") == 1, "the sister is linked once"


def test_every_order_is_named_in_both_languages() -> None:
    def orders(file: str) -> list[str]:
        table = (ROOT / "docs" / file).read_text(encoding="utf-8")
        return [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| `slo control")]

    assert orders(NAMES["zh"]) == orders(NAMES["en"])


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
    assert {f"slo/serve/web/{name}" for name in NAMES.values()} <= names
