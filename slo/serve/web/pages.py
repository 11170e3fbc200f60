"""
The pages under `/slo/`: the files of the folder `pages/`, read once, served with a strict content-security policy.

They are shells without data, so they need no key; what they show they ask of `/slo/api/…` and `/v1/embeddings`,
which do. The policy allows nothing but this server: no inline script, no foreign address, no frame around it.

`/slo/runbook` says what to do about an alert, on the server itself, so that a message reaches it with one tap. The
text is `docs/runbook.md` and its Chinese sister, rendered once, with the alert's name in lower case as the anchor of
its entry. `?lang=zh` or `en` chooses; without it the browser's own preference does. No script and no data, so no key.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

NAMES = {"zh": "runbook.zh-CN.md", "en": "runbook.md"}
_OTHER = {"zh": ("en", "English"), "en": ("zh", "中文")}
_WORDS = {"zh": ("zh-CN", "告警处置手册", "实时页面"), "en": ("en", "Runbook", "Live page")}
# A wheel carries the files inside the package; a checkout has them in docs/.
_PLACES = (Path(__file__).parent, Path(__file__).parents[3] / "docs")


@dataclass(frozen=True, slots=True)
class Rendered:
    """One language's page."""

    content: bytes
    etag: str


def render(language: str) -> Rendered:
    """The page in `language`. Raises `FileNotFoundError` where neither package nor checkout has its text."""
    path = next((place / NAMES[language] for place in _PLACES if (place / NAMES[language]).is_file()), None)
    if path is None:
        raise FileNotFoundError(NAMES[language])
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = _for_a_page(markdown.parse(path.read_text(encoding="utf-8")))
    entries = _name_entries(tokens)
    lang, title, live = _WORDS[language]
    other, other_name = _OTHER[language]
    index = "".join(f'<li><a href="#{anchor}">{html.escape(name)}</a></li>' for anchor, name in entries)
    content = f"""<!doctype html>
<html lang="{lang}">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title}</title>
  <link rel="icon" href="icon.svg" type="image/svg+xml">
  <link rel="stylesheet" href="app.css">
  <link rel="stylesheet" href="runbook.css">
</head>
<body class="runbook">
  <nav><a href="./">{live}</a> · <a href="?lang={other}" lang="{other}">{other_name}</a><ul>{index}</ul></nav>
  <main id="main">
{markdown.renderer.render(tokens, markdown.options, {})}  </main>
</body>
</html>
""".encode()
    return Rendered(content, f'"{hashlib.sha256(content).hexdigest()[:24]}"')


def _for_a_page(tokens: list[Token]) -> list[Token]:
    """Without the line that links the sister, which the page has at its top; lines of Chinese join without a blank."""
    kept: list[Token] = []
    for token in tokens:
        kept.append(token)
        if token.type == "inline":
            children = token.children or []
            for before, child, after in zip(children, children[1:], children[2:], strict=False):
                if child.type == "softbreak" and (_is_chinese(before.content[-1:]) or _is_chinese(after.content[:1])):
                    child.type, child.content = "text", ""
        if token.type == "paragraph_close" and re.fullmatch(r"\[[^]]+\]\([^)]+\)", kept[-2].content):
            del kept[-3:]
    return kept


def _is_chinese(character: str) -> bool:
    return bool(character) and ("\u3000" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef")


def _name_entries(tokens: list[Token]) -> list[tuple[str, str]]:
    """Give every heading of an entry its anchor; anchors and names in order. The other file is linked as a page."""
    found = []
    for opening, inside in pairwise(tokens):
        if opening.type == "heading_open" and opening.tag == "h2":
            anchor = inside.content.strip().lower()
            opening.attrSet("id", anchor)
            found.append((anchor, inside.content.strip()))
        for child in inside.children or ():
            if child.type == "link_open" and child.attrGet("href") in NAMES.values():
                language = next(name for name, file in NAMES.items() if file == child.attrGet("href"))
                child.attrSet("href", f"?lang={language}")
    return found


class RunbookPage:
    """The route's endpoint; both languages are rendered when it is made."""

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers
        self._pages = {language: render(language) for language in NAMES}

    async def serve(self, request: Request) -> Response:
        """The page in the language that is asked for; Chinese where nothing is."""
        page = self._pages[_language(request)]
        headers = {**self._headers, "ETag": page.etag, "Vary": "Accept-Language"}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if page.etag in known:
            return Response(status_code=304, headers=headers)
        return Response(page.content, headers=headers, media_type="text/html; charset=utf-8")


def _language(request: Request) -> str:
    asked = request.query_params.get("lang", "")
    if asked in NAMES:
        return asked
    for wish in request.headers.get("accept-language", "").lower().split(","):
        language = wish.strip()[:2]
        if language in NAMES:
            return language
    return "zh"


FOLDER = Path(__file__).with_name("pages")

# Where a page lives; every other file lives under its own name.
PAGES = {"index.html": "/slo/", "similarity.html": "/slo/similarity"}

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, but asked for each time: an upgraded server is an upgraded page.
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    """All routes of the pages, to be put before those of the host."""
    files = sorted(path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    routes = [Route("/slo", _to_slash, include_in_schema=False)]
    for path in files:
        address = PAGES.get(path.name, f"/slo/{path.name}")
        routes.append(Route(address, _serving(path), include_in_schema=False))
    routes.append(Route("/slo/runbook", RunbookPage(HEADERS).serve, include_in_schema=False))
    return routes


async def _to_slash(_: Request) -> Response:
    return RedirectResponse("slo/", status_code=308)


def _serving(path: Path) -> Callable[[Request], Awaitable[Response]]:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    headers = {**HEADERS, "ETag": etag}
    media_type = MEDIA_TYPES[path.suffix]

    async def serve(request: Request) -> Response:
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if etag in known:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return serve
