"""
A whole prometheus.yml for a first start: what to scrape, which rules to load, whom to tell.

One job is all that the rules need: the server passes on the figures of the watch that shares its state directory.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from slo.report.prometheus import JOB, to_yaml

METRICS_PATH = "/slo/metrics"
_INTERVAL = "15s"  # the dashboard's data source says so as well
WITHOUT_KEY = (
    "# With authentication on, set client.api_key_file and export again: the key is then read from that file.\n"
)


def prometheus_file(endpoint: str, *, rules: str, alertmanager: str, key_file: Path | None, header: str = "") -> str:
    """YAML. `rules` lies beside it; `key_file` holds the API key, which is never written here."""
    address = urlsplit(endpoint)
    job = {
        "job_name": JOB,
        "scheme": address.scheme,
        "metrics_path": f"{address.path.removesuffix('/v1').rstrip('/')}{METRICS_PATH}",
        **({"authorization": {"type": "Bearer", "credentials_file": str(key_file)}} if key_file else {}),
        "static_configs": [{"targets": [address.netloc]}],
    }
    return header + ("" if key_file else WITHOUT_KEY) + to_yaml({
        "global": {"scrape_interval": _INTERVAL, "evaluation_interval": "30s"},
        "rule_files": [rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [job],
    })  # fmt: skip
