"""
A real browser for the tests of pages and reports.

Playwright's synchronous calls keep an event loop running in this thread, in which no asynchronous test can run: so a
browser lives as long as its module, and no longer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

# Of all that is expected of a page: on a machine that is busy with other things five seconds are nothing.
expect.set_options(timeout=60_000)

# Nothing that would look up an outside host by itself.
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --disable-domain-reliability "
    "--no-default-browser-check --no-pings --metrics-recording-only --disable-client-side-phishing-detection "
    "--disable-features=OptimizationHints,MediaRouter,Translate,AutofillServerCommunication,CertificateTransparency"
).split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, headless, with a profile of its own."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("no chromium: run scripts/install-test-tools.sh")
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots of this run go."""
    return Path(tempfile.mkdtemp(prefix="slo-screenshots-"))
