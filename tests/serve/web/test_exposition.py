"""What Prometheus reads at `/slo/metrics`: every series from the start, at zero, and those of the watch."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.exposition import MOST_BYTES, Exposition, watch_metrics
from slo.serve.web.processes import Processes
from slo.settings_serve import ServeSection
from slo.watch.delivery.policy import metric_text
from slo.watch.heartbeat import Beat
from slo.watch.heartbeat import metric_text as heartbeat_text
from tests.serve.fakes import FakeFinder, FakeReplica

ALIVE = "slo_watcher_last_success_timestamp_seconds"


def samples(page: str) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_a_watch_that_never_ran_is_there_as_zero(tmp_path: Path) -> None:
    assert samples(watch_metrics(tmp_path).decode()) == {f"{ALIVE}[]": 0.0}


def test_the_files_of_a_watch_are_passed_on_and_nothing_else(tmp_path: Path) -> None:
    beat = heartbeat_text(Beat(at_s=5.0, pid=1, interval_s=60.0))
    (tmp_path / "watcher.prom").write_text(f"evil_metric 1\n{beat}slo_watcher_cut", encoding="utf-8")
    (tmp_path / "notifications.prom").write_text(metric_text(["dingtalk"], {}, {"dingtalk": 7.0}), encoding="utf-8")
    found = samples(watch_metrics(tmp_path).decode())
    assert found[f"{ALIVE}[]"] == 5.0
    assert found["slo_alert_last_failure_timestamp_seconds[('channel', 'dingtalk')]"] == 7.0
    assert found["slo_alert_notifications_total[('channel', 'dingtalk'), ('result', 'failed')]"] == 0.0
    assert not any("evil" in name or "cut" in name for name in found)


def test_a_file_without_end_is_read_in_part(tmp_path: Path) -> None:
    (tmp_path / "notifications.prom").write_text("slo_alert_x 1\n" * MOST_BYTES, encoding="utf-8")
    assert len(watch_metrics(tmp_path)) < MOST_BYTES + 500


async def test_a_served_model_has_its_series_at_zero_before_the_first_request() -> None:
    telemetry, cache = Telemetry(), Cache(0)
    directory = Directory(FakeFinder(m=[FakeReplica("m-0", 1)]), ServeSection(), cache, telemetry)
    await directory.lane("m")
    page = Exposition(directory, cache, telemetry, Processes(lambda: [])).text().decode()
    for code in ("2xx", "429", "5xx", "timeout"):
        labels = f'cache="miss",code="{code}",length_class="short",model="m",source="gateway"'
        wanted = set(labels.split(","))
        rows = [row for row in page.splitlines() if row.startswith("slo_request_duration_seconds_count{")]
        (row,) = [row for row in rows if wanted <= set(row[row.index("{") + 1 : row.index("}")].split(","))]
        assert float(row.rsplit(" ", 1)[1]) == 0.0
