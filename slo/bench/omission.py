"""
What a caller who waits does not send: requests that would have been due, and late, while a late answer was waited for.

A closed loop asks again when it is answered. So a service that stands still for two seconds of every ten is asked once
per caller during a stall, and hundreds of times between two: 99 % in time, for callers of whom one in five would have
been late had they not waited for each other ("coordinated omission", Tene; HdrHistogram and wrk2 correct it alike).

A caller's *pace* is its usual interval: the grid on which it asks, or, where it asks without a pause, the median
latency of the class. Each late request, answered after L, stands for those that its caller would have sent at pace P
meanwhile, which would have waited for L − P, L − 2P, … down to P; they are late while that exceeds the threshold. Of a
failed one, only the late ones are taken. A request in time stands for itself alone, so that nothing good is made up
but during late answers. The weight of all in a proof is that of their sequence in order of due time: those of one
stall are one cluster. Of a single caller, who meets no queue, it is taken from that sequence of late ones alone (his
latencies follow the classes and the mood of the machine, hardly the stalls).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from slo.bench.verdict import cautious_size
from slo.objective import Objective
from slo.samples import Sample
from slo.sentences import say
from slo.stats import nearest_rank
from slo.units import show_ratio

MOST = 200_000  # of the expected are looked at for their weight; a part of them, evenly, where there are more


@dataclass(frozen=True, kw_only=True)
class OnPace:
    """Sent and expected requests together; `expected` and `late` of them are those that were never sent.

    `flags` has 1 for each late one, in order of due time.
    """

    pace_ms: dict[str, float]
    total: int
    good: int
    expected: int
    late: int
    effective: float
    p95_ms: float
    flags: bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the flags."""
        return {
            "pace_ms": self.pace_ms, "total": self.total, "good": self.good, "expected": self.expected,
            "late": self.late, "effective": round(self.effective, 1),
            "p95_ms": round(self.p95_ms, 4) if math.isfinite(self.p95_ms) else None,
        }  # fmt: skip


def meanwhile(waited_ms: float, pace_ms: float, objective: Objective, *, failed: bool = False) -> tuple[int, int]:
    """How many would have been due while a caller waited so long, and how many of these would have been late."""
    limit_ms = objective.threshold_ms
    if waited_ms <= limit_ms or not pace_ms > 0:
        return 0, 0
    due = max(0, math.floor(waited_ms / pace_ms) - 1)
    late = min(due, max(0, math.ceil((waited_ms - limit_ms) / pace_ms) - 1))
    return (late if failed else due), late


class Waits:
    """How long each caller waited for what, in any order; cached answers are left out."""

    def __init__(self) -> None:
        self.due_s = array("d")
        self.waited_ms = array("f")  # for a failure as well
        self.failed = bytearray()
        self.bad = bytearray()
        self.kinds = array("H")  # places in `names`
        self.names: dict[str, int] = {}

    def note(self, sample: Sample, objective: Objective) -> None:
        """Take one request in."""
        if sample.cached:
            return
        self.due_s.append(sample.due_s)
        self.waited_ms.append(sample.latency_ms)
        self.failed.append(not sample.ok)
        self.bad.append(not sample.good(objective))
        self.kinds.append(self.names.setdefault(sample.length_class, len(self.names)))

    def usual_ms(self) -> dict[str, float]:
        """Median latency of each class, rounded as a record has it; a class without an answer is left out."""
        waited, failed, kinds = np.array(self.waited_ms), np.array(self.failed), np.array(self.kinds)
        answered = {name: waited[(kinds == kind) & (failed == 0)] for name, kind in self.names.items()}
        return {name: round(float(np.median(values)), 3) for name, values in answered.items() if values.size}

    def late(self) -> dict[str, tuple[array[float], bytes]]:
        """By class: how long the bad ones were waited for, and which of them failed. All that the counts rest on."""
        bad, names = np.flatnonzero(np.array(self.bad)), list(self.names)
        found: dict[str, tuple[array[float], bytearray]] = {}
        for place in bad:
            waits, failed = found.setdefault(names[self.kinds[place]], (array("f"), bytearray()))
            waits.append(self.waited_ms[place])
            failed.append(self.failed[place])
        return {name: (waits, bytes(failed)) for name, (waits, failed) in found.items()}

    def on_pace(self, objective: Objective, pace_ms: Mapping[str, float], *, queued: bool = True) -> OnPace:
        """All that was sent and expected; `pace_ms` by class, the threshold where it is not known.

        `queued`: several callers meet in a queue, see `cautious_size`.
        """
        names, n = list(self.names), len(self.bad)
        due_s, bad = np.array(self.due_s), np.array(self.bad, dtype=np.uint8)
        latencies = np.where(np.array(self.failed, dtype=np.uint8) > 0, np.inf, np.array(self.waited_ms, np.float64))
        parts, expected, late = [], 0, 0
        for place in np.flatnonzero(bad):
            pace = pace_ms.get(names[self.kinds[place]], objective.threshold_ms)
            more, of_late = meanwhile(self.waited_ms[place], pace, objective, failed=bool(self.failed[place]))
            expected, late = expected + more, late + of_late
            if more:
                parts.append((place, pace, more, of_late))
        step = -(-expected // MOST) if expected else 1
        dues, waits, flags = [due_s], [latencies], [bad]
        for place, pace, more, of_late in parts:
            turns = np.arange(1, more + 1, step, dtype=np.float64)
            dues.append(due_s[place] + turns * pace / 1000)
            waits.append((math.inf if self.failed[place] else self.waited_ms[place]) - turns * pace)
            flags.append((turns <= of_late).astype(np.uint8))
        order = np.argsort(np.concatenate(dues), kind="stable")
        all_bad, all_waits = np.concatenate(flags)[order], np.concatenate(waits)[order]
        effective = cautious_size(all_bad, all_waits if queued else np.zeros(all_bad.size))
        return OnPace(
            pace_ms=dict(pace_ms), total=n + expected, good=n + expected - int(bad.sum()) - late, expected=expected,
            late=late, effective=effective if n else 0.0,
            p95_ms=nearest_rank(np.sort(all_waits).tolist(), 0.95), flags=all_bad.tobytes(),
        )  # fmt: skip


def waits_of(samples: list[Sample], objective: Objective) -> Waits:
    """Those of a record's samples."""
    found = Waits()
    for sample in samples:
        found.note(sample, objective)
    return found


def kept_pace(found: Mapping[str, Any], objective: Objective) -> list[str]:
    """The note on what was expected besides, if anything was."""
    if not found or not found["expected"]:
        return []
    share, limit = show_ratio(found["good"] / found["total"]), f"{objective.threshold_ms:g}"
    return [say("on.pace", expected=found["expected"], late=found["late"], share=share, limit=limit)]
