"""
One request on its way, and the seam between who decides *when* (the loops) and who carries it (the pool).

Times are seconds on the run's monotonic clock. A loop sets `due_s` and `dispatched_s`, whoever carries the exchange
sets the rest and then calls `on_done`. `dispatched_s − due_s` is the lag of this program; what passes between
dispatch and `sent_s` is waiting for a connection, which the service causes and which counts as its latency.

Why requests failed is counted by kind (outcome, HTTP status, error code), with one example of what was said. Examples
hold no texts and no secrets (see `slo/http.py`); a request from a file of own texts has its id there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from slo.errors import BadRequest, Refused, RequestError, ServerFault, Unauthorized
from slo.http import complaint_of, texts_of, without_texts
from slo.samples import Sample

OK = "ok"
Row = dict[str, Any]
Kind = tuple[str, int, str]
MOST_KINDS = 50  # a server that makes up a code per request must not fill the record
OTHER = "(other codes)"


class Exchange:
    """A request and what became of it. Mutable and slotted: a run makes thousands of them per second."""

    __slots__ = (
        "answer",
        "attempts",
        "body",
        "cached",
        "chars",
        "complaint",
        "dispatched_s",
        "done_s",
        "due_s",
        "fresh",
        "headers",
        "inputs",
        "length_class",
        "measured",
        "name",
        "outcome",
        "sent_s",
        "sequence",
        "status",
        "timing",
    )

    def __init__(
        self, body: bytes, length_class: str, *, inputs: int = 1, chars: tuple[int, ...] = (), fresh: bool = False,
        name: str = "",
    ) -> None:  # fmt: skip
        """`fresh`: sent with `Cache-Control: no-cache`; `name`: its id in a file of own texts."""
        self.body = body
        self.length_class = length_class
        self.inputs = inputs
        self.chars = chars
        self.fresh = fresh
        self.name = name
        self.sequence = -1
        self.measured = False  # not part of the warm-up
        self.due_s = self.dispatched_s = self.sent_s = self.done_s = float("nan")
        self.status = 0
        self.outcome = ""
        self.cached = False
        self.timing = b""  # the value of Server-Timing
        self.answer = b""  # the body of a 2xx, until it is checked
        self.complaint = b""  # what was said instead of an answer
        self.attempts = 0
        self.headers: dict[bytes, bytes] = {}  # those of a refusal that say when to come back

    @property
    def finished(self) -> bool:
        return bool(self.outcome)

    @property
    def latency_s(self) -> float:
        """From the moment it was due."""
        return self.done_s - self.due_s

    def reopen(self) -> None:
        """As before it was sent, to be sent again; it stays due when it was."""
        self.sent_s = self.done_s = float("nan")
        self.status, self.outcome, self.complaint, self.answer, self.headers = 0, "", b"", b"", {}

    def sample(self) -> Sample:
        """The record of it."""
        return Sample(
            self.due_s, self.sent_s, self.done_s, self.outcome, self.length_class, self.cached, self.dispatched_s
        )


class Service(Protocol):
    """What carries exchanges: the connection pool, or a simulated server in tests."""

    on_done: Callable[[Exchange], None]

    def submit(self, exchange: Exchange) -> None:
        """Start carrying `exchange`; `on_done(exchange)` is called once, later, whatever happens."""
        ...


def outcome_of(status: int) -> str:
    """The outcome that a record counts for an HTTP status; agrees with `slo.client` (a test proves it)."""
    return OK if 200 <= status < 300 else _failure(status).outcome


def _failure(status: int) -> type[RequestError]:
    if status in (401, 403):
        return Unauthorized
    if status == 429:
        return Refused
    return ServerFault if status >= 500 else BadRequest


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


def parse_timing(value: bytes) -> list[tuple[str, float]]:
    """`queue;dur=1.5, infer;dur=20` → names with milliseconds; entries without a duration are left out."""
    found = []
    for part in value.split(b","):
        name, *parameters = (piece.strip() for piece in part.split(b";"))
        for parameter in parameters:
            key, _, number = parameter.partition(b"=")
            if key == b"dur":
                try:
                    found.append((name.decode("latin-1"), float(number.strip(b'" '))))
                except ValueError:
                    continue  # not a number: the server's affair, and no reason to end a run
    return found
