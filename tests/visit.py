"""One visit to a page: what the browser complained about, and whom it asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

VIOLATIONS = """window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));"""


@dataclass
class Visit:
    """A page with its complaints and the requests that left it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def note(self, request: Request) -> None:
        """A request left the page."""
        self.requests.append(request)

    def foreign_hosts(self, address: str) -> set[str]:
        """Hosts other than the one at `address` that anything was asked of."""
        asked = {urlsplit(request.url) for request in self.requests}
        return {part.netloc for part in asked if part.scheme not in ("data", "blob")} - {urlsplit(address).netloc}

    def policy_violations(self) -> list[str]:
        """Directives of the content-security policy that something tried to break."""
        found: list[str] = self.page.evaluate("window.violations")
        return found

    def serious_findings(self) -> list[str]:
        """What axe-core calls serious or critical, with the places."""
        return [
            f"{item['id']}: {[node['target'] for node in item['nodes']]}"
            for item in Axe().run(self.page).response["violations"]
            if item["impact"] in ("serious", "critical")
        ]

    def text(self, selector: str) -> str:
        """What stands there."""
        return self.page.locator(selector).inner_text()


@contextmanager
def visiting(
    browser: Browser,
    address: str,
    *,
    language: str = "en-US",
    scheme: Literal["light", "dark"] = "light",
    size: tuple[int, int] = (1440, 900),
) -> Iterator[Visit]:
    """Open `address` in a fresh profile."""
    options: Any = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=options, locale=language, color_scheme=scheme)
    context.add_init_script(VIOLATIONS)
    visit = Visit(context.new_page())

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.complaints.append(message.text)

    visit.page.on("console", heard)
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("request", visit.note)
    visit.page.goto(address)
    try:
        yield visit
    finally:
        context.close()
