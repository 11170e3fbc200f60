"""
When refused callers may come back: one after another, as fast as they can be served, and no two at the same instant.

Each gets the time at which the work of those who were told before it will be done, spread by ±`JITTER`; a time that
has passed is forgotten. So a burst that was refused does not come back as a burst.
"""

from __future__ import annotations

import random

JITTER = 0.25
LONGEST_S = 10.0  # callers who never come back must not keep the others away for long


class Comeback:
    """One model's list of promised times, of which only the last is kept."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._last_s = float("-inf")

    def after_s(self, now_s: float, wait_s: float, work_s: float) -> float:
        """Seconds until a caller should ask again, who would wait `wait_s` now and asks for `work_s`."""
        self._last_s = min(max(self._last_s, now_s + wait_s) + work_s, now_s + LONGEST_S)
        return (self._last_s - now_s) * self._chance.uniform(1 - JITTER, 1 + JITTER)
