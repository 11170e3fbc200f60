"""Which minute a round belongs to, when rounds come every minute, more or less."""

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
