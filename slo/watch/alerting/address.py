"""
Where the watched service is, as messages and labels say it: what tells two hosts apart, and what a phone can open.

`127.0.0.1` is another machine for everybody who reads it, so it becomes this host's name.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from slo.addresses import is_loopback
from slo.config import Config

ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - recognised, not listened on
RUNBOOK = "runbook"


def instance_of(endpoint: str, here: str | None = None) -> str:
    """`gpu-1:9997`: host and port, as Prometheus labels an instance. `here` is this host's name."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{_host(parts.hostname or '', here)}:{port}"


def page_of(config: Config, here: str | None = None) -> str:
    """Address of the page `/slo/`, with a slash at its end: `alerts.external_url`, else what the endpoint says.

    A server that listens on this machine alone keeps its loopback address: no other would reach it.
    """
    if config.alerts.external_url:
        return f"{config.alerts.external_url.rstrip('/')}/"
    parts = urlsplit(config.endpoint)
    netloc = parts.netloc
    if is_loopback(parts.hostname or "") and config.server.host in ANYWHERE:
        netloc = instance_of(config.endpoint, here)
    return f"{parts.scheme}://{netloc}{parts.path.removesuffix('/v1').rstrip('/')}/slo/"


def runbook_of(config: Config, here: str | None = None) -> str:
    """Where alerts find their entries: as configured, else the server's own page."""
    return config.watch.notify.runbook or f"{page_of(config, here)}{RUNBOOK}"


def watched(config: Config, here: str | None = None) -> dict[str, str]:
    """The labels that all alerts of this watch have in common."""
    return {
        "model": config.model.id,
        "endpoint": config.endpoint,
        "instance": instance_of(config.endpoint, here),
    }


def _host(name: str, here: str | None) -> str:
    if is_loopback(name) or name in ANYWHERE:
        return here or socket.gethostname()
    return f"[{name}]" if ":" in name else name
