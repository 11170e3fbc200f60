"""
Agreed downtime: minutes within it are kept, but left out of the budget, and alerts are muted meanwhile.

Each window has a reason and an author and stays in the history: budgets are shown with and without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from slo.clock import iso
from slo.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Agreed downtime in `[starts_s, ends_s)`, wall-clock seconds."""

    id: str
    starts_s: float
    ends_s: float
    reason: str
    author: str

    def __post_init__(self) -> None:
        if not self.reason.strip() or not self.author.strip():
            raise ConfigError("maintenance needs a reason and an author", hint="both are shown beside the budget")
        if not self.starts_s < self.ends_s:
            raise ConfigError("maintenance must end after it starts")

    def covers(self, start_s: float, end_s: float) -> bool:
        """Does any part of `[start_s, end_s)` lie within? A minute cut by the edge is excused whole."""
        return start_s < self.ends_s and end_s > self.starts_s

    def __str__(self) -> str:
        return f"{iso(self.starts_s)} to {iso(self.ends_s)}: {self.reason} ({self.author})"


def covering(windows: Iterable[Maintenance], start_s: float, end_s: float) -> Maintenance | None:
    """The first window that touches `[start_s, end_s)`."""
    return next((window for window in windows if window.covers(start_s, end_s)), None)
