"""
What callers on their pace would have met in each slice of a soak: written down, added up, and derived again.

Each caller's pace is the median latency of the class in the slice (see `omission`). A line holds the counts, the waits
for the late answers of each class, which the counts follow from, and the sequence of late ones, sent and expected,
which bounds their weight.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from slo.bench.omission import MOST, Waits, meanwhile
from slo.bench.verdict import effective_size
from slo.objective import Objective
from slo.record_form import pack_bytes, unpack_bytes
from slo.stats import rank
from slo.tally import Tally, tally_from_json

NEAR = 0.02  # relative: what bins of 1 % and single precision may differ by

Row = dict[str, Any]
Difference = tuple[str, Any, Any]


def paced_row(waits: Waits, objective: Objective) -> Row:
    """For the line of a slice."""
    found = waits.on_pace(objective, waits.usual_ms())
    late = {name: [pack_bytes(ms.tobytes()), pack_bytes(failed)] for name, (ms, failed) in waits.late().items()}
    return {"on_pace": found.to_json(), "paced_bad": pack_bytes(found.flags), "late_waits": late}


def paced_rows(rows: Sequence[Row]) -> list[Row]:
    """Counts with the expected ones, by slice; of a slice that an earlier version wrote, what was sent."""
    bare = {"expected": 0, "late": 0}
    return [row.get("on_pace") or {**bare, **{key: row[key] for key in ("total", "good", "effective")}} for row in rows]


def reckoned_again(row: Row, objective: Objective) -> Iterator[Difference]:
    """Where the counts of one slice do not follow from its waits: what it says, and what its data give."""
    given, expected, late, bad = row["on_pace"], 0, 0, 0
    tallies = {name: tally_from_json(part) for name, part in row["tallies"].items()}
    for name, (packed_ms, packed_failed) in row["late_waits"].items():
        waits, failed = array("f", unpack_bytes(packed_ms)), unpack_bytes(packed_failed)
        pace = given["pace_ms"].get(name, objective.threshold_ms)
        counts = [meanwhile(ms, pace, objective, failed=bool(f)) for ms, f in zip(waits, failed, strict=True)]
        expected, late = expected + sum(due for due, _ in counts), late + sum(of_late for _, of_late in counts)
        bad += len(waits)
        answered = [ms for ms, f in zip(waits, failed, strict=True) if not f]
        yield from _unlike_bins(name, answered, given["pace_ms"].get(name), tallies.get(name, Tally()), objective)
    yield from (
        (f"on_pace.{key}", given[key], derived)
        for key, derived in (
            ("expected", expected), ("late", late), ("total", row["total"] + expected),
            ("good", row["total"] + expected - bad - late),
        )
        if given[key] != derived
    )  # fmt: skip
    if bad != row["total"] - row["good"]:
        yield "late_waits", bad, row["total"] - row["good"]
    flags = unpack_bytes(row["paced_bad"])
    if expected <= MOST and (len(flags), sum(flags)) != (given["total"], given["total"] - given["good"]):
        yield "paced_bad", [len(flags), sum(flags)], [given["total"], given["total"] - given["good"]]
    if given["effective"] > (most := round(effective_size(list(flags)), 1)):
        yield "on_pace.effective, at most", given["effective"], most


def _unlike_bins(
    name: str, answered: list[float], pace_ms: float | None, tally: Tally, objective: Objective
) -> Iterator[Difference]:
    """Late answers and pace against the slice's histogram."""
    whole = tally.sum_beyond(objective.threshold_ms)
    if abs(sum(answered) - whole) > NEAR * whole + objective.threshold_ms * tally.at_edge(objective.threshold_ms):
        yield f"late_waits.{name}, sum in ms", round(sum(answered)), round(whole)
    if pace_ms is not None and tally.answered:
        half = tally.answered / 2
        low, high = (tally.at_rank(max(1, min(tally.answered, rank_of))) for rank_of in (int(half), int(half) + 1))
        if not low * (1 - NEAR) <= pace_ms <= high * (1 + NEAR):
            yield f"on_pace.pace_ms.{name}", pace_ms, round(tally.at_rank(rank(tally.answered, 0.5)), 3)
