"""
Why requests failed: how many of each kind (outcome, HTTP status, error code), with one example of what was said.

Examples hold no texts and no secrets (see `complaints`); a request from a file of own texts has its id there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slo.bench.exchange import Exchange
from slo.complaints import complaint_of, texts_of, without_texts
from slo.errors import RequestError

Row = dict[str, Any]
Kind = tuple[str, int, str]
MOST_KINDS = 50  # a server that makes up a code per request must not fill the record
OTHER = "(other codes)"


class Failures:
    """Counts by kind, each with the example that came first."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._kinds: dict[Kind, Row] = {}
        self.merge(rows)

    def note(self, exchange: Exchange) -> None:
        """Count a failed exchange."""
        code, message = complaint_of(exchange.complaint)
        row = self._row(exchange.outcome, exchange.status, code)
        row["count"] += 1
        if row["count"] == 1:
            row["example"] = without_texts(message, texts_of(exchange.body))
            row["request"] = exchange.name

    def note_error(self, error: RequestError, text: str) -> None:
        """Count the failure of a request for `text`."""
        row = self._row(error.outcome, error.status or 0, error.code)
        row["count"] += 1
        if row["count"] == 1:
            row["example"] = without_texts(error.message, [text])

    def add(self, outcome: str, code: str, *, status: int = 200, count: int = 1) -> None:
        """Count failures that only became known later."""
        self._row(outcome, status, code)["count"] += count

    def merge(self, rows: Iterable[Row]) -> None:
        """Count all that `rows` counted."""
        for row in rows:
            mine = self._row(row["outcome"], row["status"], row["code"])
            mine["count"] += row["count"]
            mine["example"] = mine["example"] or row["example"]
            mine["request"] = mine["request"] or row["request"]

    def rows(self) -> list[Row]:
        """For the record, the most frequent first."""
        return sorted((dict(row) for row in self._kinds.values()), key=lambda row: -row["count"])

    def _row(self, outcome: str, status: int, code: str) -> Row:
        kind = (outcome, status, code)
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            kind = (outcome, status, OTHER)
        empty = {"outcome": kind[0], "status": status, "code": kind[2], "count": 0, "example": "", "request": ""}
        return self._kinds.setdefault(kind, empty)
