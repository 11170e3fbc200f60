"""The files under `/slo/`, without a browser: headers, caching, weight, and that nothing foreign is named."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from slo.serve.site.pages import FOLDER, MEDIA_TYPES, page_routes


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
