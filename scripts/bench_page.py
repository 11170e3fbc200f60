"""
What the live page weighs, how soon it shows its first figures, and what it costs the server while it is open.

    python scripts/bench_page.py [--endpoint http://127.0.0.1:9997] [--seconds 60] [--rounds 3] [--json]

Opens `/slo/` in Debian's Chromium, cold, and reads the processor time of the server's processes from the kernel:
with the page open and without, in turns. Run it on this machine, beside a server that nobody else asks anything: no
load, no `slo watch`, whose probes would cost more than the page does. Cost is in percent of one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time

import requests
from playwright.sync_api import Browser, Page, Request, sync_playwright

FIGURES = "#connection[data-state=connected]"
SETTLE_S = 5.0


def server_cpu_s(endpoint: str) -> float:
    """Seconds of processor time that all processes of the server have used."""
    status = requests.get(f"{endpoint}/slo/api/status", timeout=10).json()
    return float(sum(process["cpu_s"] for process in status["processes"]))


def used(endpoint: str, seconds: float) -> float:
    """Percent of a core over the next `seconds`."""
    before, started = server_cpu_s(endpoint), time.monotonic()
    time.sleep(seconds)
    return 100 * (server_cpu_s(endpoint) - before) / (time.monotonic() - started)


def opened(browser: Browser, endpoint: str) -> tuple[Page, float, int]:
    """The page in a fresh profile; seconds to the first figures; bytes that came over the wire."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    finished: list[Request] = []

    def note(request: Request) -> None:
        finished.append(request)

    page.on("requestfinished", note)
    started = time.monotonic()
    page.goto(endpoint + "/slo/")
    page.wait_for_selector(FIGURES, timeout=20_000)
    took_s = time.monotonic() - started
    sizes = [request.sizes() for request in finished]
    return page, took_s, sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", default="http://127.0.0.1:9997")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    program = shutil.which("chromium")
    if program is None:
        sys.exit("no chromium: run scripts/install-test-tools.sh")
    firsts, weights, costs = [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(options.rounds):
            idle = used(options.endpoint, options.seconds)
            page, first_s, weight = opened(browser, options.endpoint)
            page.wait_for_timeout(SETTLE_S * 1000)
            costs.append(used(options.endpoint, options.seconds) - idle)
            page.context.close()
            firsts.append(first_s)
            weights.append(weight)
        browser.close()
    figures = {
        "first_figures_s": round(statistics.median(firsts), 3),
        "cold_bytes": max(weights),
        "cost_percent_of_a_core": round(statistics.median(costs), 2),
        "cost_rounds": [round(cost, 2) for cost in costs],
    }
    print(json.dumps(figures) if options.json else "\n".join(f"{name:<24} {value}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
