"""
The pages under `/slo/`: the files of the folder `pages/`, read once, served with a strict content-security policy.

They are shells without data, so they need no key; what they show they ask of `/slo/api/…` and `/v1/embeddings`,
which do. The policy allows nothing but this server: no inline script, no foreign address, no frame around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slo.serve.site.runbook import RunbookPage

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
