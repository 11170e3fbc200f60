"""Answers held back on purpose: what a drill breaks, bounded in time."""

from __future__ import annotations

from collections.abc import Callable


class Delay:
    """How long every answer of the model is held back now: zero, but in a drill."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seconds = self._until_s = 0.0

    @property
    def seconds(self) -> float:
        """Seconds to wait; ends by itself."""
        return self._seconds if self._seconds and self._now() < self._until_s else 0.0

    def set(self, seconds: float, for_s: float) -> None:
        """Hold answers back for `seconds` each, during the next `for_s`."""
        self._seconds, self._until_s = seconds, self._now() + for_s
