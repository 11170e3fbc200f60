"""
Who asked not to be told, about what, until when, and why. Matching as in Alertmanager: all matchers must agree.

A silence mutes messages; the alert still fires, is recorded, and burns budget. Maintenance does more, see
`maintenance.py`.

Agreed downtime (maintenance): minutes within it are kept, but left out of the budget, and alerts are muted meanwhile.
Each window has a reason and an author and stays in the history: budgets are shown with and without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from slo.clock import iso
from slo.errors import ConfigError

Operator = Literal["=", "!=", "=~", "!~"]
_MATCHER = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; a missing label is the empty string. Regular expressions match the whole value."""

    label: str
    operator: Operator
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        actual = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (actual == self.value) == (self.operator == "=")
        return (re.fullmatch(self.value, actual) is not None) == (self.operator == "=~")

    def __str__(self) -> str:
        return f"{self.label}{self.operator}{self.value}"


def parse_matcher(text: str) -> Matcher:
    """`severity=page`, `alertname=~.*BudgetBurn`, quotes around the value allowed."""
    match = _MATCHER.fullmatch(text)
    if match is None:
        raise ConfigError(f"{text!r} is not a matcher", hint="write it like severity=page or alertname=~.*Burn")
    label, operator, value = match.groups()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if operator in ("=~", "!~"):
        try:
            re.compile(value)
        except re.error as error:
            raise ConfigError(f"{value!r} is not a regular expression: {error}") from error
    return Matcher(label, cast("Operator", operator), value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Mutes alerts whose labels satisfy every matcher, within `[starts_s, ends_s)`."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_s: float
    ends_s: float
    author: str
    comment: str

    def __post_init__(self) -> None:
        if not self.matchers:
            raise ConfigError(
                "a silence without matchers would mute everything", hint="give severity=~.* if you mean it"
            )
        if not self.author.strip() or not self.comment.strip():
            raise ConfigError("a silence needs an author and a comment", hint="who asked for it, and why")
        if not self.starts_s < self.ends_s:
            raise ConfigError("a silence must end after it starts")

    def mutes(self, labels: Mapping[str, str], now_s: float) -> bool:
        return self.starts_s <= now_s < self.ends_s and all(matcher.matches(labels) for matcher in self.matchers)


def muted_by(silences: Iterable[Silence], labels: Mapping[str, str], now_s: float) -> Silence | None:
    """The first silence in force for these labels; None when people are to be told."""
    return next((silence for silence in silences if silence.mutes(labels, now_s)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance:
    """Agreed downtime in `[starts_s, ends_s)`, wall-clock seconds."""

    id: str
    starts_s: float
    ends_s: float
    reason: str
    author: str

    def __post_init__(self) -> None:
        if not self.reason.strip() or not self.author.strip():
            raise ConfigError("maintenance needs a reason and an author", hint="both are shown beside the budget")
        if not self.starts_s < self.ends_s:
            raise ConfigError("maintenance must end after it starts")

    def covers(self, start_s: float, end_s: float) -> bool:
        """Does any part of `[start_s, end_s)` lie within? A minute cut by the edge is excused whole."""
        return start_s < self.ends_s and end_s > self.starts_s

    def __str__(self) -> str:
        return f"{iso(self.starts_s)} to {iso(self.ends_s)}: {self.reason} ({self.author})"


def covering(windows: Iterable[Maintenance], start_s: float, end_s: float) -> Maintenance | None:
    """The first window that touches `[start_s, end_s)`."""
    return next((window for window in windows if window.covers(start_s, end_s)), None)
