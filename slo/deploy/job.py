"""A launch under way, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from slo.clock import Clock
from slo.config import Config
from slo.deploy.machine import Machine
from slo.deploy.registration import ModelPlan
from slo.deploy.source import Hub
from slo.samples import Summary


class Progress:
    """Writes to `console` (diagnostics, not the product) and remembers how long each stage took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._status: Status | None = None
        self._stage = ""
        self._note = ""
        self._shown = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything done inside belongs to `name`; its line appears when it ends well."""
        start_s = time.monotonic()
        self._stage, self._note, self._shown = name, "", ""
        if self.console.is_terminal:
            with self.console.status(name) as self._status:
                yield
            self._status = None
        else:
            yield
        self.seconds[name] = time.monotonic() - start_s
        tail = f"  {escape(self._note)}" if self._note else ""
        self.console.print(f"[green]✓[/] {name:<12} {self.seconds[name]:6.1f} s{tail}", soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        """What came out of the running stage."""
        self._note = text

    def busy(self, text: str) -> None:
        """What the running stage is doing right now; shown when it changes."""
        if text == self._shown:
            return
        self._shown = text
        if self._status is not None:
            self._status.update(f"{self._stage}: {escape(text)}")
        elif not self.console.is_terminal:
            self.say(f"{self._stage}: {text}")

    def say(self, text: str, *, style: str | None = None) -> None:
        """One line for the user to read, whatever the stage."""
        self.console.print(f"  {escape(text)}", style=style, soft_wrap=True, highlight=False)


@dataclass(kw_only=True)
class LaunchJob:
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
            f"Model loaded: {self.plan.name} (uid {self.plan.uid}, {self.plan.dimension} dimensions, "
            f"engine {self.plan.engine}, {self.plan.replicas} replica{'s' if self.plan.replicas > 1 else ''}, "
            f"{self.seconds:.1f} s){note}"
        )
