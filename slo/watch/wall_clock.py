"""
What the wall clock is believed: to which minute a round belongs, and whether what is old may be thrown away.

Old is what two clocks agree on. A wall clock may be 40 days ahead for some seconds, until somebody sets it right; by
then nothing is left of a budget that was purged by it. It is believed when it has kept pace with the monotonic clock
for a day, or when it goes on from the last instant that was believed. A machine that was switched off for longer waits
for a day as well.
"""

from __future__ import annotations


def next_slot(now_s: float, last_slot_s: int | None, interval_s: int) -> int:
    """Start of the slice that the round at `now_s` (wall clock) closes.

    Follows the slot before it as long as the wall clock agrees to within an interval: rounds that come a few
    milliseconds early or late would otherwise share a slot now and leave one empty then. A clock that was set, a
    pause, or a suspended machine starts over from the clock.
    """
    natural = int((now_s - interval_s) // interval_s) * interval_s
    if last_slot_s is not None and abs(natural - last_slot_s - interval_s) <= interval_s:
        return last_slot_s + interval_s
    return natural


DAY_S = 86400.0
STEP_S = 60.0  # clocks that drift apart by more than this between two looks have been set


class ClockCheck:
    """`believed_s` is the last wall-clock second that was believed; None in a new history, which can lose nothing."""

    def __init__(self, believed_s: float | None) -> None:
        self.believed_s = believed_s
        self._last: tuple[float, float] | None = None
        self._calm_since_s = 0.0  # monotonic

    def look(self, wall_s: float, monotonic_s: float) -> bool:
        """Both clocks as they are now: is the wall clock believed?"""
        if self._last is None or abs((wall_s - self._last[0]) - (monotonic_s - self._last[1])) > STEP_S:
            self._calm_since_s = monotonic_s
        self._last = wall_s, monotonic_s
        goes_on = self.believed_s is None or wall_s - self.believed_s <= DAY_S
        if not goes_on and monotonic_s - self._calm_since_s < DAY_S:
            return False
        self.believed_s = wall_s
        return True
