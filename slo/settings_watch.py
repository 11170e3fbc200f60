"""The section `watch` of the configuration: what is promised, how it is measured, who may repair what."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from slo.settings import Address, Duration, Section, Size


class ObjectivesSection(Section):
    """Promises beside the latency objective at the top of the file; an empty text turns one off."""

    availability: str = "errors <= 0.2%"
    correctness: str = "wrong <= 0.1%"


class BudgetSection(Section):
    """Over which period the error budget is counted."""

    period: str = "30d"
    timezone: str = "UTC"


class BurnSection(Section):
    """Which burn-rate table each objective uses; a table of one's own by `file`."""

    latency: str = "auto"
    availability: str = "auto"
    correctness: str = "auto"
    file: Path | None = None


class SourceSection(Section):
    """Where the counts come from."""

    kind: Literal["auto", "passive", "prometheus", "probe"] = "auto"
    thin: int = Field(60, ge=0)
    prometheus_url: Address | None = None
    prometheus_selector: str = ""


class NoDataSection(Section):
    """When missing measurements become an alert, and when they become missed windows."""

    alert_after: Duration = Field(300.0, ge=60)
    bad_after: Duration = 600.0


class StoreSection(Section):
    """The history file `history.db` in the state directory."""

    max_size: Size = Field(64 * 2**20, ge=2 * 2**20)
    minutes: Duration = Field(4 * 86400.0, ge=6 * 3600)
    five_minutes: Duration = Field(32 * 86400.0, ge=86400)
    hours: Duration = Field(400 * 86400.0, ge=86400)


class NotifySection(Section):
    """How often people hear of one incident."""

    group_interval: Duration = 300.0
    repeat: Duration = 4 * 3600.0
    runbook: str = ""


class HeartbeatSection(Section):
    """The sign of life of the watcher; `url` is called after each round, and whoever runs it alerts when it is not."""

    url: Address | None = None
    timeout: Duration = Field(5.0, gt=0, le=30)


class RemediationSection(Section):
    """Which remedies may be carried out without a person."""

    relaunch_model: bool = True
    restart_server: bool = False
    add_replica: bool = False
    shed: bool = False
    clear_cache: bool = False
    dry_run: bool = False
    cool_down: Duration = Field(600.0, ge=60)
    per_hour: int = Field(3, ge=1, le=60)
    settle: Duration = Field(300.0, ge=60)


class WatchSection(Section):
    """`slo watch`: how often, over which window, and how many probes each time."""

    interval: Duration = Field(60.0, ge=0.1)
    window: Duration = Field(300.0, gt=0)
    probes: int = Field(60, ge=3, le=10_000)
    objectives: ObjectivesSection = ObjectivesSection()
    budget: BudgetSection = BudgetSection()
    burn: BurnSection = BurnSection()
    source: SourceSection = SourceSection()
    no_data: NoDataSection = NoDataSection()
    store: StoreSection = StoreSection()
    notify: NotifySection = NotifySection()
    heartbeat: HeartbeatSection = HeartbeatSection()
    remediation: RemediationSection = RemediationSection()
