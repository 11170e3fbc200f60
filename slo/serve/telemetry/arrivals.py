"""
When requests came and how long their texts were, for a replay of real traffic; never the texts.

A ring of the last requests that were well-formed and meant for a model here, whatever became of them: refused ones
and those that a cache answered are demand, too. Bounded by requests and by texts, some 6 MB at most.
`GET /slo/api/arrivals?seconds=600` gives them as the trace that `slo load --arrivals replay:FILE` reads: JSON lines,
a header and one line per request with seconds since the first and the characters of each text.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence

CONTENT_TYPE = "application/x-ndjson"
MOST_REQUESTS = 20_000
MOST_TEXTS = 100_000
LONGEST_S = 86_400.0

Row = tuple[float, tuple[int, ...]]


class ArrivalLog:
    """One per API process; written on the event loop only."""

    def __init__(self, *, requests: int = MOST_REQUESTS, texts: int = MOST_TEXTS) -> None:
        self._requests, self._most = requests, texts
        self._rows: deque[Row] = deque()
        self._texts = 0
        self._forgotten_s = float("-inf")  # arrival of the last one that had to go

    def note(self, arrived_s: float, texts: Sequence[str]) -> None:
        """A request with these texts arrived."""
        self._rows.append((arrived_s, tuple(map(len, texts))))
        self._texts += len(texts)
        while len(self._rows) > self._requests or self._texts > self._most:
            self._forgotten_s, lengths = self._rows.popleft()
            self._texts -= len(lengths)

    def since(self, from_s: float) -> tuple[list[Row], bool]:
        """Those that came after `from_s`, in order, and whether none of them had to go."""
        return sorted(row for row in self._rows if row[0] >= from_s), self._forgotten_s < from_s


def trace_text(rows: Sequence[Row], *, seconds: float, complete: bool) -> str:
    """The trace as JSON lines; times from the first arrival on."""
    header = {"format": 1, "kind": "arrivals", "seconds": seconds, "complete": complete, "requests": len(rows)}
    start_s = rows[0][0] if rows else 0.0
    lines = [json.dumps(header)]
    lines += [f'{{"t": {arrived_s - start_s:.6f}, "chars": {list(chars)}}}' for arrived_s, chars in rows]
    return "\n".join(lines) + "\n"
