"""
What the server says of itself: is it there, has it the model, does that answer, how old is it, does it queue? And the
CPU time of the watch's own machine, where the server runs too in the usual case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slo.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """What the server says of itself. None where it does not say. `ready`: a real embedding came back.

    `uptime_s` is the age of the model's youngest replica, or of the server where the engine does not tell. `weights`
    tells two sets of weights apart; empty where the engine does not.
    """

    server_up: bool | None = None
    model_up: bool | None = None
    ready: bool | None = None
    uptime_s: float | None = None
    queueing: bool | None = None
    weights: str = ""


def health_of(
    models: Callable[[], list[str]],
    status: Callable[[], Mapping[str, Any]],
    model: str,
    ready: Callable[[], bool] | None = None,
) -> ServerHealth:
    """Ask the server: does it answer, does it have the model, how old is it, does it shed or queue?

    An answer of any kind, 401 included, is a server that is up.
    """
    try:
        names = models()
    except RequestError as error:
        return ServerHealth(server_up=error.status is not None)
    try:
        said = status()
    except RequestError:
        said = {}  # a server without the extension: it answers, and says no more
    # What was ordered since the start counts for more than what was configured.
    policy = said.get("control", said.get("settings", {}).get("admission", {})).get("policy")
    return ServerHealth(
        server_up=True,
        model_up=model in names,
        ready=_answer(ready) if said and ready else None,
        uptime_s=min(_ages_s(said, model), default=said.get("uptime_s")),
        queueing=None if policy is None else policy == "queue",
        weights=" ".join(sorted({str(engine["fingerprint"]) for engine in _engines(said, model)
                                 if engine.get("fingerprint")})),
    )  # fmt: skip


def _ages_s(said: Mapping[str, Any], model: str) -> list[float]:
    """Since when each replica of `model` is loaded, as far as told."""
    return [float(engine["age_s"]) for engine in _engines(said, model) if "age_s" in engine]


def _engines(said: Mapping[str, Any], model: str) -> list[Mapping[str, Any]]:
    """What the engine of each replica of `model` says of itself."""
    rows = (row for row in said.get("models", ()) if row["model"] == model)
    return [replica["engine"] for row in rows for replica in row["replicas"]]


def _answer(ask: Callable[[], bool]) -> bool | None:
    try:
        return ask()
    except RequestError:
        return None


STAT = Path("/proc/stat")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Cumulative ticks of all processors."""

    total: int
    idle: int
    steal: int

    def shares_since(self, earlier: CpuTime) -> tuple[float, float] | None:
        """Busy and stolen share of the time since `earlier`, 0 … 1; None when no time has passed."""
        total = self.total - earlier.total
        if total <= 0:
            return None
        steal = max(0, self.steal - earlier.steal)
        return max(0.0, 1 - (self.idle - earlier.idle + steal) / total), steal / total


def cpu_time(path: Path = STAT) -> CpuTime | None:
    """The counters of this instant; None on a system without `/proc/stat`."""
    try:
        fields = path.read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    # cpu user nice system idle iowait irq softirq steal guest guest_nice; guest time is within user already.
    ticks = [int(value) for value in fields[1:9]]
    if fields[:1] != ["cpu"] or len(ticks) < 8:
        return None
    return CpuTime(total=sum(ticks), idle=ticks[3] + ticks[4], steal=ticks[7])
