"""A level that changes in steps, and its integral over time: mean requests in flight, without sampling."""

from __future__ import annotations


class Integral:
    """∫ level dt of a level that changes in steps."""

    def __init__(self) -> None:
        self._level = 0
        self._since_s: float | None = None
        self._area = 0.0

    def change(self, now_s: float, by: int) -> None:
        """The level changes by `by` at `now_s`."""
        self._area = self.value(now_s)
        self._since_s = now_s
        self._level += by

    def restart(self, now_s: float) -> None:
        """Count from zero again; the level stays."""
        self._area, self._since_s = 0.0, now_s

    def value(self, now_s: float) -> float:
        """The integral up to `now_s`."""
        return self._area + (self._level * (now_s - self._since_s) if self._since_s is not None else 0.0)
