"""A real Prometheus that begins with an idle server: silence, then thousands of failures at once, then its end."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

from slo.report.prometheus import JOB, rules_file
from slo.report.promise import BurnWindow, Promise
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.settings_serve import ServeSection
from tests.real_servers import get_json, prometheus, until
from tests.serve.fakes import FakeFinder, FakeReplica

QUICK = Promise(
    model="m", name="availability", title="errors ≤ 0.2 %", alert="AvailabilityBudgetBurn", target=0.998,
    threshold_s=None, windows=(BurnWindow(severity="critical", long_s=15, short_s=5, factor=14.4),),
)  # fmt: skip


class Server(ThreadingHTTPServer):
    """Serves the exposition of real telemetry."""

    daemon_threads = True
    exposition: Exposition


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = cast("Server", self.server).exposition.text()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


async def test_the_first_failures_of_an_idle_server_and_its_end_are_seen(tmp_path: Path) -> None:
    telemetry, cache = Telemetry(), Cache(0)
    directory = Directory(FakeFinder(m=[FakeReplica("m-0", 1)]), ServeSection(), cache, telemetry)
    await directory.lane("m")
    server = Server(("127.0.0.1", 0), _Handler)
    server.exposition = Exposition(directory, cache, telemetry, Processes(lambda: []))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    rules = rules_file([QUICK], runbook="x").replace("interval: 30s", "interval: 1s").replace("for: 1m", "for: 1s")
    (tmp_path / "rules.yml").write_text(rules.replace("for: 5m", "for: 1s"), encoding="utf-8")
    config = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{tmp_path / "rules.yml"}]
scrape_configs: [{{job_name: {JOB}, static_configs: [{{targets: ["127.0.0.1:{server.server_port}"]}}]}}]
"""
    with prometheus(tmp_path, config) as address:

        def firing(name: str) -> bool:
            query = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
            return bool(get_json(f"{address}/api/v1/query", query=query)["data"]["result"])

        def scraped() -> bool:
            query = 'count_over_time(slo_request_duration_seconds_count{code="5xx",length_class="short"}[1m]) > 3'
            return bool(get_json(f"{address}/api/v1/query", query=query)["data"]["result"])

        until("some scrapes of an idle server", scraped)
        assert not firing("NoData")
        assert not firing("ServerDown")
        assert not firing("AvailabilityBudgetBurn")
        for _ in range(3000):
            telemetry.request("m", "short", "5xx", cached=False, seconds=0.01)
        until("the failures are seen", lambda: firing("AvailabilityBudgetBurn"))
        server.shutdown()
        server.server_close()
        until("its end is seen", lambda: firing("ServerDown"))
        assert not firing("NoData")
    thread.join()
