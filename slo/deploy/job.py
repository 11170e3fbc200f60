"""A launch under way, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slo.clock import Clock
from slo.config import Config
from slo.deploy.machine import Machine
from slo.deploy.progress import Progress
from slo.deploy.registration import ModelPlan
from slo.deploy.source import Hub
from slo.records import Summary


@dataclass(kw_only=True)
class Job:
    """One launch under way: what it works with, and how to undo what it has done so far."""

    config: Config
    progress: Progress
    clock: Clock
    machine: Machine
    undo: ExitStack
    stock: bool = False
    path_required: bool = False
    hubs: Sequence[Hub] = ()
    log_offset: int = 0
    started: bool = False  # the server itself, by this run
    changed: bool = False  # anything at all
    revive: bool = False  # what ran before is started again, by the keeper: no questions, no first measurement

    @property
    def models_dir(self) -> Path:
        return self.config.state_dir / "models"

    def facts(self) -> dict[str, Any]:
        """What it takes to do this launch once more: no secret is part of a configuration."""
        return {"config": self.config.model_dump(mode="json"), "stock": self.stock}


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A model that is up. `first` is None when nothing had to be changed; `stages` are seconds by name."""

    endpoint: str
    plan: ModelPlan
    label: str
    log: Path | None
    pid: int
    auth: bool
    access: str
    changed: bool
    seconds: float
    stages: dict[str, float]
    first: Summary | None

    def __str__(self) -> str:
        """The line that ends a good launch in log and console."""
        note = f" [{self.label}]" if self.label else ""
        return (
            f"Model loaded: {self.plan.name} (uid {self.plan.name}, {self.plan.dimension} dimensions, "
            f"engine {self.plan.engine}, {self.plan.replicas} replica{'s' if self.plan.replicas > 1 else ''}, "
            f"{self.seconds:.1f} s){note}"
        )
