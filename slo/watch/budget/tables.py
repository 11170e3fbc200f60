"""Burn-rate tables from `configs/burn-rates.yaml`: the file is data, this gives it its types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from slo.errors import ConfigError, SloError
from slo.units import parse_duration
from slo.watch.budget.burn import Guard, Pair, Table
from slo.watch.model.notification import SEVERITIES, Severity
from slo.yaml_file import read_yaml

# A wheel carries the file inside the package; a checkout has it in configs/.
_PLACES = (Path(__file__).with_name("burn-rates.yaml"), Path(__file__).parents[3] / "configs" / "burn-rates.yaml")

AUTO = "auto"
# Below this budget the factors of `strict` leave room to fire early; above it they do not (see the file).
_SMALL_BUDGET = 0.02


def load_tables(path: Path | None = None) -> dict[str, Table]:
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


def chosen(tables: Mapping[str, Table], preset: str, budget: float) -> Table:
    """The table named `preset`; `auto` takes `strict` for budgets below 2 % and `p95` above."""
    name = ("strict" if budget < _SMALL_BUDGET else "p95") if preset == AUTO else preset
    if name not in tables:
        raise ConfigError(f"no burn-rate table {name!r}", hint=f"there are: auto, {', '.join(tables)}")
    return tables[name]


def _table(name: str, row: Any, where: str) -> Table:
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
    return Table(name=name, period_s=period_s, pairs=pairs, guard=guard)


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
