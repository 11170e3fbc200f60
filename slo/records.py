"""
What was measured, as plain data: one `Sample` per request, one `Run` per measurement, JSON in and out.

A run record describes itself: every report is made from records, never from live objects. Times of a sample
are seconds on the monotonic clock of the run; `Run.started_at` is the wall clock. Texts are never recorded.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from slo import __version__
from slo.clock import iso
from slo.errors import StoreError
from slo.files import write_atomically
from slo.host import host_facts
from slo.objective import Objective, Verdict, judge
from slo.record_form import digest_of, finite, packed, quantised, unpacked
from slo.samples import Sample, Summary, summarize

FORMAT = 2  # 1 had neither dispatch times nor what a verdict can be derived from again
READABLE = (1, 2)


@dataclass(kw_only=True)
class Run:
    """One measurement: what was asked, of whom, on which machine, and every sample.

    A run too long to keep them all keeps a random part, and says in `exact` (and `exact_cached`) what was counted
    over all of them. `decided` is the verdict of who measured, where that knows more than the samples say: that
    they depend on each other, or that the run is void, for the reasons in `void`. `details` holds what a kind of
    measurement adds: per-second `series`, `resources`, `self_check`, `stages`, `probes`, `slices`.
    """

    kind: str
    started_wall_s: float
    endpoint: str
    model: str
    objective: Objective
    settings: dict[str, Any]
    samples: list[Sample]
    server: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=host_facts)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    exact: list[Summary] = field(default_factory=list)
    exact_cached: Summary | None = None
    decided: Verdict | None = None
    void: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            stamp = iso(self.started_wall_s)[:19].replace(":", "").replace("-", "")
            self.id = f"{stamp}-{self.kind}-{secrets.token_hex(3)}"

    @property
    def apart(self) -> set[str]:
        """Classes that are shown with a verdict of their own, and have no part in that of the run."""
        return set(self.settings.get("apart", ()))

    @property
    def stand_in(self) -> bool:
        """Were the weights generated instead of trained?"""
        return bool(self.server.get("stand_in"))

    def summaries(self) -> list[Summary]:
        """One per length class in order of first appearance, then `overall` when there are several.

        Answers from a cache are left out: they say nothing about computing. `cached()` has them.
        """
        if self.exact:
            return list(self.exact)
        computed = [sample for sample in self.samples if not sample.cached]
        names = list(dict.fromkeys(sample.length_class for sample in computed))
        groups = {name: [s for s in computed if s.length_class == name] for name in names}
        if len(groups) - len(self.apart & set(names)) > 1:
            groups["overall"] = [sample for sample in computed if sample.length_class not in self.apart]
        return [summarize(name, part, self.objective, weight=self.weight) for name, part in groups.items()]

    def cached(self) -> Summary | None:
        """The answers that a cache gave; None without any. They never decide the verdict."""
        if self.exact:
            return self.exact_cached
        hits = [sample for sample in self.samples if sample.cached]
        return summarize("cached", hits, self.objective) if hits else None

    @property
    def weight(self) -> float:
        """Independent requests that one of these weighs as: below 1 where late ones come in clusters."""
        found = self.details.get("conclusion")
        return min(1.0, found["effective"] / found["total"]) if found and found["total"] else 1.0

    def verdict_of(self, summary: Summary, *, whole: bool) -> Verdict | None:
        """The verdict on one row of `summaries`. Where the measurement judged the whole, only that has one."""
        if self.decided is None and not self.void and not (whole and "on_pace" in self.details):
            return summary.judgement.verdict
        return self.verdict if whole else None

    @property
    def verdict(self) -> Verdict:
        """As decided, else: missed if any class, the whole or a caller on its pace missed; met only if all are."""
        if self.void:
            return Verdict.UNPROVEN
        if self.decided is not None:
            return self.decided
        verdicts = {summary.judgement.verdict for summary in self.summaries() if summary.name not in self.apart}
        verdicts |= {Verdict(found["verdict"]) for found in [self.details.get("on_pace")] if found}
        if Verdict.MISSED in verdicts:
            return Verdict.MISSED
        return Verdict.MET if verdicts == {Verdict.MET} else Verdict.UNPROVEN

    def to_json(self) -> dict[str, Any]:
        """The record; samples as rows of `[due, sent, done, outcome, class, cached, dispatched]`, the last if known."""
        cached = self.cached()
        data = {
            "format": FORMAT,
            "tool": f"xinference-slo {__version__}",
            "id": self.id,
            "kind": self.kind,
            "started_at": iso(self.started_wall_s),
            "started_wall_s": self.started_wall_s,
            "endpoint": self.endpoint,
            "model": self.model,
            "stand_in": self.stand_in,
            "objective": asdict(self.objective),
            "settings": self.settings,
            "server": self.server,
            "host": self.host,
            "notes": self.notes,
            "interrupted": self.interrupted,
            "verdict": self.verdict.value,
            "decided": self.decided.value if self.decided else None,
            "void": self.void,
            "thinned": bool(self.exact),
            "details": self.details,
            "summaries": [_summary_json(summary) for summary in self.summaries()],
            "cached": _summary_json(cached) if cached else None,
            "samples": [row_of(sample) for sample in self.samples],
        }
        return data | {"digest": digest_of(data)}


def row_of(sample: Sample) -> list[Any]:
    """A sample as a record has it."""
    times = (sample.due_s, sample.sent_s, sample.done_s)
    row = [*map(quantised, times), sample.outcome, sample.length_class, sample.cached]
    return row if sample.dispatched_s is None else [*row, quantised(sample.dispatched_s)]


def run_from_json(data: dict[str, Any], *, source: str = "record") -> Run:
    """The run that `to_json` described. Raises `StoreError` naming `source` if it is not one."""
    try:
        if data["format"] not in READABLE:
            raise StoreError(f"{source}: record format {data['format']}, this version reads {FORMAT}")
        data = unpacked(data)
        objective, thinned = Objective(**data["objective"]), data.get("thinned", False)
        return Run(
            kind=data["kind"], started_wall_s=data["started_wall_s"], endpoint=data["endpoint"],
            model=data["model"], objective=objective, settings=data["settings"],
            samples=[Sample(*row) for row in data["samples"]], server=data["server"], host=data["host"],
            notes=data["notes"], interrupted=data["interrupted"], id=data["id"],
            exact=[_summary_from_json(row, objective) for row in data["summaries"]] if thinned else [],
            exact_cached=_summary_from_json(data["cached"], objective) if thinned and data["cached"] else None,
            decided=Verdict(data["decided"]) if data.get("decided") else None, void=data.get("void", []),
            details=data.get("details", {}),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{source}: not a run record ({error})", hint="records lie in .slo/runs/*.json") from error


def save_run(run: Run, state_dir: Path) -> Path:
    """Write the record to `runs/<id>.json` under `state_dir`, whole or not at all."""
    path = state_dir / "runs" / f"{run.id}.json"
    write_atomically(path, json.dumps(packed(run.to_json()), ensure_ascii=False, allow_nan=True) + "\n")
    return path


def load_run(reference: str, state_dir: Path) -> Run:
    """A run by file name, by id (or its unique beginning), or `last` / `last:stress` for the newest of a kind."""
    path, data = read_record(reference, state_dir)
    return run_from_json(data, source=str(path))


def read_record(reference: str, state_dir: Path) -> tuple[Path, dict[str, Any]]:
    """The file that `reference` means (see `load_run`), and what it holds. Raises `StoreError`."""
    path = _find_run(reference, state_dir)
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error
    return path, data


def _find_run(reference: str, state_dir: Path) -> Path:
    direct = Path(reference)
    if direct.is_file():
        return direct
    known = sorted((state_dir / "runs").glob("*.json"))
    if reference == "last" or reference.startswith("last:"):
        kind = reference.partition(":")[2]
        matching = [path for path in known if not kind or f"-{kind}-" in path.name][-1:]
    else:
        matching = [path for path in known if path.name.startswith(reference)]
    if len(matching) == 1:
        return matching[0]
    problem = "fits several records" if matching else "is no record"
    raise StoreError(f"{reference!r} {problem} in {state_dir / 'runs'}", hint="`slo baseline` writes one")


def _summary_json(summary: Summary) -> dict[str, Any]:
    data = {k: v for k, v in asdict(summary).items() if k != "judgement"}
    data["success_ratio"] = summary.success_ratio
    data["good"] = summary.judgement.good
    data["verdict"] = summary.judgement.verdict.value
    data["advice"] = summary.judgement.advice
    return dict(finite(data))  # a percentile that is a failed request becomes null


def _summary_from_json(row: dict[str, Any], objective: Objective) -> Summary:
    """Null stands for a percentile that is a failed request; one of the answered is unknown then, or in old records."""
    figures: dict[str, Any] = {}
    for name in (f.name for f in fields(Summary) if f.name != "judgement"):
        late = name.startswith("answered")
        value = row.get(name) if late else row[name]
        figures[name] = (math.nan if late else math.inf) if value is None else value
    return Summary(**figures, judgement=judge(row["good"], row["total"], objective))


def merge(parts: Iterable[list[Sample]]) -> list[Sample]:
    """All samples in order of their due time."""
    return sorted((s for part in parts for s in part), key=lambda s: s.due_s)
