"""Where a record and what follows from its data differ: values compared, and what was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from slo.objective import Verdict
from slo.record_form import finite

NEAR = 1e-9  # relative; another machine's numpy may differ in the last digits


@dataclass(frozen=True)
class Discrepancy:
    """At `where` the record says `recorded`, its own data say `derived`."""

    where: str
    recorded: Any
    derived: Any

    def __str__(self) -> str:
        return f"{self.where}: the record says {_short(self.recorded)}, its data give {_short(self.derived)}"


@dataclass(frozen=True, kw_only=True)
class Rederived:
    """`verdict` is the derived one; `gaps` say what this record does not let be derived again."""

    id: str
    kind: str
    objective: str
    verdict: Verdict
    samples: int
    differences: tuple[Discrepancy, ...] = ()
    gaps: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Does everything follow?"""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "id": self.id, "kind": self.kind, "objective": self.objective, "verdict": self.verdict.value,
            "samples": self.samples, "sound": self.sound, "gaps": list(self.gaps),
            "differences": [vars(difference) for difference in self.differences],
        }  # fmt: skip


@dataclass
class Findings:
    differences: list[Discrepancy] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    def same(self, where: str, recorded: Any, derived: Any) -> None:
        """Note it if the two are not alike."""
        if not alike(recorded, derived):
            self.differences.append(Discrepancy(where=where, recorded=recorded, derived=derived))


def differing(recorded: Any, derived: Any, where: str = "") -> Iterator[Discrepancy]:
    """Every place where two pieces of plain data are not alike; a missing one is None."""
    if isinstance(recorded, dict) and isinstance(derived, dict):
        for key in {**recorded, **derived}:
            yield from differing(recorded.get(key), derived.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(recorded, list) and isinstance(derived, list) and len(recorded) == len(derived):
        for index, (a, b) in enumerate(zip(recorded, derived, strict=True)):
            yield from differing(a, b, f"{where}[{index}]")
    elif not alike(recorded, derived):
        yield Discrepancy(where=where, recorded=recorded, derived=derived)


def alike(a: Any, b: Any) -> bool:
    """Equal, numbers to the last digits that a record has; one that is not finite is null in a record."""
    a, b = finite(a), finite(b)
    if isinstance(a, float) or isinstance(b, float):
        if isinstance(a, int | float) and isinstance(b, int | float):
            return a == b or abs(a - b) <= NEAR * max(abs(a), abs(b))
        return False
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    return bool(a == b)


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
