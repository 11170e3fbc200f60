"""
Multi-window burn-rate conditions, the check that they can be met at all, and their tables (`configs/burn-rates.yaml`).

A pair of windows is breached when e(long) > f·B and e(short) > f·B, with e the bad ratio, f the factor and B the
budget. Against low traffic, e(long) is replaced by its lower Wilson bound and needs `min_total` requests with
`min_bad` bad ones: one bad request out of one is 100 % bad, and no reason to wake anybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from slo.errors import ConfigError, SloError
from slo.settings import read_yaml
from slo.stats import wilson
from slo.units import parse_duration, show_duration
from slo.watch.model.counts import Counts
from slo.watch.model.notification import SEVERITIES, Severity

MOST_BAD = 0.8  # a row that asked for more might never fire, whatever happens


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One row of a table: fires at more than `factor` × budget over both windows (seconds).

    `bad` is the share of bad requests that the row names instead of a factor, which then follows from the budget.
    """

    severity: Severity
    long_s: float
    short_s: float
    factor: float = 0.0
    bad: float | None = None

    def threshold(self, budget: float) -> float:
        """The bad ratio that must be exceeded."""
        return self.factor * budget

    def spent(self, period_s: float) -> float:
        """Share of the period's budget gone when the pair fires after a full long window: factor · long / period."""
        return self.factor * self.long_s / period_s

    def __str__(self) -> str:
        return f"{self.factor:g}× over {show_duration(self.long_s)} and {show_duration(self.short_s)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the long window must hold before its ratio is believed; see the module."""

    min_total: int = 20
    min_bad: int = 5
    z: float = 1.645


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnTable:
    """Pairs chosen for one budget period."""

    name: str
    period_s: float
    pairs: tuple[Pair, ...]
    guard: Guard = Guard()

    def scaled(self, period_s: float, interval_s: float, budget: float) -> tuple[Pair, ...]:
        """The pairs for another period and a budget: windows in proportion, factors kept up to `MOST_BAD`.

        Windows shorter than what an evaluation every `interval_s` can see become 2 and 1 intervals; they then spend
        more of the budget before they fire, which `lint` reports. Whole intervals only, rounded up.
        """
        return tuple(
            replace(
                pair,
                long_s=_whole(pair.long_s * scale, interval_s, at_least=2),
                short_s=_whole(pair.short_s * scale, interval_s, at_least=1),
                factor=min(pair.factor if pair.bad is None else math.inf, (pair.bad or MOST_BAD) / budget),
            )
            for pair in self.pairs
            for scale in (period_s / self.period_s if pair.bad is None else 1.0,)
        )


def _whole(seconds: float, interval_s: float, *, at_least: int) -> float:
    # round: 1800 · (7/30) / 60 must not become 7.000000000000001 and then 8.
    count = -int(-round(seconds / interval_s, 9) // 1)
    return max(at_least, count) * interval_s


def breached(pair: Pair, long: Counts, short: Counts, budget: float, guard: Guard) -> bool | None:
    """Is the pair exceeded? None when the short window holds no request: nobody can say."""
    if short.total == 0:
        return None
    limit = pair.threshold(budget)
    # Compared as counts: 0.4 · 5 bad of 5 must not hang on the last bit of a quotient.
    if short.bad <= limit * short.total + 1e-9:
        return False
    if long.total < guard.min_total or long.bad < guard.min_bad:
        return False
    return wilson(long.bad, long.total, guard.z)[0] > limit


@dataclass(frozen=True, slots=True)
class Finding:
    """What `lint` noticed. An `error` row can never do its work; a warning is worth knowing."""

    level: Literal["error", "warning"]
    message: str


def lint(name: str, pairs: Iterable[Pair], budget: float, period_s: float) -> list[Finding]:
    """Rows that cannot fire, or fire too late, for an objective called `name`."""
    findings, rows = [], tuple(pairs)
    for pair in rows:
        needed, where = pair.threshold(budget), f"{name}: {pair.severity} at {pair}"
        if needed >= 1:
            findings.append(
                Finding("error", f"{where} can never fire: it asks for more than {needed:.0%} bad requests")
            )
        elif all(other.threshold(budget) > 0.7 for other in rows if other.severity == pair.severity):
            findings.append(Finding("warning", f"{where} fires only above {needed:.0%} bad requests"))
        if pair.long_s > period_s:
            findings.append(Finding("warning", f"{where} looks back further than the budget period"))
        elif needed < 1 and pair.spent(period_s) > 0.5:
            findings.append(Finding("warning", f"{where} has spent {pair.spent(period_s):.0%} of the budget by then"))
        if pair.short_s > pair.long_s:
            findings.append(Finding("error", f"{where}: the short window is the longer one"))
    return findings


def by_severity(pairs: Iterable[Pair]) -> dict[Severity, tuple[Pair, ...]]:
    """Pairs grouped by severity, most urgent first; severities without a pair are absent."""
    rows = tuple(pairs)
    grouped = {severity: tuple(pair for pair in rows if pair.severity == severity) for severity in SEVERITIES}
    return {severity: found for severity, found in grouped.items() if found}


# A wheel carries the file inside the package; a checkout has it in configs/.
_PLACES = (Path(__file__).with_name("burn-rates.yaml"), Path(__file__).parents[3] / "configs" / "burn-rates.yaml")

AUTO = "auto"
# Below this budget the factors of `strict` leave room to fire early; above it they do not (see the file).
_SMALL_BUDGET = 0.02


def load_tables(path: Path | None = None) -> dict[str, BurnTable]:
    """All tables by name, from `path` or the file that comes with the package.

    Raises `ConfigError` naming file, table and row for anything missing, unknown or out of range.
    """
    path = path or next((place for place in _PLACES if place.is_file()), _PLACES[-1])
    try:
        data: Any = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    tables = data.get("tables") if isinstance(data, dict) else None
    if not isinstance(tables, dict) or not tables:
        raise ConfigError("expected a mapping of tables", where=str(path), hint="keep the key `tables:` at the top")
    return {str(name): _table(str(name), row, f"{path}: tables.{name}") for name, row in tables.items()}


def chosen(tables: Mapping[str, BurnTable], preset: str, budget: float) -> BurnTable:
    """The table named `preset`; `auto` takes `strict` for budgets below 2 % and `p95` above."""
    name = ("strict" if budget < _SMALL_BUDGET else "p95") if preset == AUTO else preset
    if name not in tables:
        raise ConfigError(f"no burn-rate table {name!r}", hint=f"there are: auto, {', '.join(tables)}")
    return tables[name]


def _table(name: str, row: Any, where: str) -> BurnTable:
    try:
        pairs = tuple(_pair(pair, f"{where}.pairs[{index}]") for index, pair in enumerate(row["pairs"]))
        unknown = set(row) - {"period", "min_total", "min_bad", "z", "pairs"}
        guard = Guard(min_total=int(row["min_total"]), min_bad=int(row["min_bad"]), z=float(row["z"]))
        period_s = parse_duration(row["period"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"missing or not usable: {error}", where=where) from error
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(sorted(map(str, unknown)))}", where=where)
    if not pairs or period_s <= 0:
        raise ConfigError("a table needs a period above zero and at least one pair", where=where)
    return BurnTable(name=name, period_s=period_s, pairs=pairs, guard=guard)


def _pair(row: Any, where: str) -> Pair:
    try:
        severity, factor, bad = row["severity"], float(row.get("factor", 1.0)), _share(row)
        long_s, short_s = parse_duration(row["long"]), parse_duration(row["short"])
        unknown = set(row) - {"severity", "long", "short", "factor", "bad"}
    except (KeyError, TypeError, ValueError, SloError) as error:
        raise ConfigError(f"missing or not usable: {error}", where=where) from error
    if severity not in SEVERITIES:
        raise ConfigError(f"severity {severity!r}", where=where, hint=f"one of {', '.join(SEVERITIES)}")
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(sorted(map(str, unknown)))}", where=where)
    if factor <= 0 or not 0 < short_s <= long_s:
        raise ConfigError("needs factor > 0 and 0 < short ≤ long", where=where)
    if bad is not None and not 0 < bad < 1:
        raise ConfigError(f"bad {row['bad']!r}", where=where, hint="a share between 0 % and 100 %, like 80%")
    return Pair(severity=cast("Severity", severity), long_s=long_s, short_s=short_s, factor=factor, bad=bad)


def _share(row: Any) -> float | None:
    """Of `bad: 80%`; None where the row has a factor. Raises `KeyError` for a row with both or neither."""
    if ("bad" in row) is ("factor" in row):
        raise KeyError("factor or bad")
    if "bad" not in row:
        return None
    return float(str(row["bad"]).removesuffix("%")) / 100 if str(row["bad"]).endswith("%") else float(row["bad"])
