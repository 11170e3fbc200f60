"""
The slices of a soak: what is kept of each, how they add up, and the file that they are appended to.

Within a slice percentiles are exact; over slices they come from 1 % wide bins, while counts stay exact.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from slo.bench.exchange import Exchange
from slo.bench.omission import Waits
from slo.bench.paced_slices import paced_row, paced_rows
from slo.bench.stationary import trend
from slo.bench.verdict import cautious_size
from slo.errors import BadAnswer, StoreError
from slo.files import private_folder, write_atomically
from slo.objective import Objective
from slo.record_form import pack_bytes
from slo.samples import Sample
from slo.stats import nearest_rank, rank
from slo.tally import Tally, tally_from_json

FORMAT = 2
KIND = "stress-slices"
MIN_SLICES = 6  # before a slope of memory is spoken of

Row = dict[str, Any]


class Slice:
    """What ended within one slice."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.classes: dict[str, Tally] = {}
        self.cached = Tally()
        self.latencies_ms: list[float] = []
        self.bad = bytearray()
        self.waits = Waits()

    @property
    def any_answers(self) -> bool:
        """Has anything been counted?"""
        return bool(self.bad) or self.cached.total > 0

    def observe(self, exchange: Exchange, objective: Objective, offer: Callable[[Sample], None]) -> None:
        """Count `exchange`, and offer it to a sample of the run."""
        if not exchange.measured:
            return
        sample = exchange.sample()
        offer(sample)
        if sample.cached:
            self.cached.count(sample, objective)
            return
        self.classes.setdefault(sample.length_class, Tally()).count(sample, objective)
        self.waits.note(sample, objective)
        self.bad.append(not sample.good(objective))
        self.latencies_ms.append(sample.latency_ms if sample.ok else float("inf"))

    def row(self, index: int, now_s: float, objective: Objective, **more: Any) -> Row:
        """For the file: figures of the slice and the tallies that add up."""
        latencies, whole = sorted(self.latencies_ms), Tally()
        for tally in self.classes.values():
            whole.add(tally)
        figures = {f"p{q}_ms": _finite(nearest_rank(latencies, q / 100)) for q in (50, 95, 99)}
        seconds = now_s - self.started_s
        return {
            "index": index,
            "seconds": round(seconds, 3),
            "total": whole.total,
            "good": whole.good,
            "rate": round(whole.total / seconds, 3) if seconds > 0 else 0.0,
            "failed": dict(whole.failed),
            "met": whole.total > 0 and whole.good >= objective.target * whole.total,
            **figures,
            "max_ms": _finite(latencies[-1]) if latencies else None,
            "effective": round(cautious_size(self.bad, self.latencies_ms), 1),
            "bad": pack_bytes(bytes(self.bad)),
            **paced_row(self.waits, objective),
            **more,
            "tallies": {name: tally.to_json() for name, tally in self.classes.items()},
            "cached": self.cached.to_json(),
        }


def soak_figures(rows: Sequence[Row], clients: int) -> Row:
    """The result table: P95, attainment, callers, errors, memory and its slope."""
    merged = totals(rows)
    whole = merged.get("overall") or next(iter(merged.values()), Tally())
    failed = whole.failed.total()
    judged = [row for row in rows if row["total"]]
    return {
        "seconds": sum(row["seconds"] for row in rows),
        "requests": whole.total,
        "rate": whole.total / max(1e-9, sum(row["seconds"] for row in rows)),
        "p95_ms": _finite(whole.quantile_ms(0.95)),
        "answered_p95_ms": _finite(whole.at_rank(rank(whole.answered, 0.95))) if whole.answered else None,
        "worst_slice_p95_ms": max((row["p95_ms"] or float("inf") for row in judged), default=None),
        "on_pace": _on_pace(rows),
        "attainment": whole.good / whole.total if whole.total else None,
        "slices_met": sum(row["met"] for row in judged) / len(judged) if judged else None,
        "slices": len(rows),
        "clients": clients,
        "peak_in_flight": max((row["peak_in_flight"] for row in rows), default=0),
        "errors": failed,
        "error_rate": failed / whole.total if whole.total else None,
        "failed": dict(whole.failed),
        "memory": memory_slope(rows),
    }


def _on_pace(rows: Sequence[Row]) -> float | None:
    """The share in time for callers on their pace; None where nothing was expected besides what was sent."""
    paced = paced_rows(rows)
    expected = sum(part["expected"] for part in paced)
    return sum(part["good"] for part in paced) / sum(part["total"] for part in paced) if expected else None


def memory_slope(rows: Sequence[Row]) -> Row | None:
    """Growth of the server's memory in bytes per hour with its 95 % interval; None below six full slices.

    `growing` only when the interval lies above zero and the growth over the run exceeds 1 % of the memory.
    """
    longest = max((row["seconds"] for row in rows), default=0.0)
    kind = "pss" if all(row.get("pss") for row in rows) else "rss"  # earlier versions knew no PSS
    measured = [row for row in rows if row.get(kind) and row["seconds"] >= longest / 2]
    if len(measured) < MIN_SLICES:
        return None
    found = trend([float(row[kind]) for row in measured])
    hours = sum(row["seconds"] for row in measured[1:]) / 3600
    return {
        "bytes_per_hour": found.rise / hours,
        "low": found.low / hours,
        "high": found.high / hours,
        "growing": found.low > 0 and found.relative > 0.01,
    }


def totals(rows: Sequence[Row]) -> dict[str, Tally]:
    """Tallies per class over all slices, and `overall` when there are several. Wrong answers are taken off the good."""
    names = list(dict.fromkeys(name for row in rows for name in row["tallies"]))
    merged = {name: total_of(row["tallies"][name] for row in rows if name in row["tallies"]) for name in names}
    for name, counted_good in (pair for row in rows for part in row.get("answers", ()) for pair in part["wrong"]):
        merged[name].good -= counted_good
        merged[name].failed[BadAnswer.outcome] += 1
    if len(merged) > 1:
        whole = Tally()
        for tally in merged.values():
            whole.add(tally)
        merged["overall"] = whole
    return merged


def total_of(parts: Iterable[Row]) -> Tally:
    """The sum of tallies given as plain data."""
    whole = Tally()
    for part in parts:
        whole.add(tally_from_json(part))
    return whole


def read_slices(path: Path) -> tuple[Row, list[Row]]:
    """Header and finished slices of a run; a last line that a crash cut off is removed. Raises `StoreError`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}", hint="`slo stress` prints its ID") from error
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                write_atomically(path, "".join(f"{whole}\n" for whole in lines[:-1]))
                break
            raise StoreError(f"{path}:{number}: not JSON ({error})") from error
    if not rows or rows[0].get("format") != FORMAT or rows[0].get("kind") != KIND:
        raise StoreError(
            f"{path}: does not begin as the slices of a stress run of this version", hint="start a new `slo stress`"
        )
    return rows[0], rows[1:]


def append_row(path: Path, row: Row) -> None:
    try:
        private_folder(path.parent)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror}", hint="free space, or fix its rights"
        ) from error


def _finite(value: float) -> float | None:
    return round(value, 3) if -float("inf") < value < float("inf") else None
