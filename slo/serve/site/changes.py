"""Changes that the API process sees by itself: its start, and models that begin to be served in another way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from slo.serve.door.lane import Lane

MOST = 100


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is `start`, `launch` or `replicas`; `detail` says what it was changed to."""

    at_s: float
    kind: str
    detail: str


class Changes:
    """The last `MOST` changes. `look` is called every few seconds."""

    def __init__(self, started_s: float) -> None:
        self.seen: deque[Change] = deque([Change(started_s, "start", "")], maxlen=MOST)
        self._weights: dict[str, tuple[int, str]] = {}
        self._replicas: dict[str, int] = {}

    def look(self, lanes: Iterable[Lane], now_s: float) -> None:
        """Note what is different from the last look."""
        for lane in lanes:
            status = lane.replicas[0].status if lane.replicas else {}
            served = " ".join(str(status[key]) for key in ("engine", "precision") if status.get(key))
            weights = (lane.generation, served)
            if lane.replicas and self._weights.get(lane.model) != weights:
                self._weights[lane.model] = weights
                self._note(now_s, "launch", f"{lane.model} {served}".strip())
            elif self._replicas.get(lane.model, len(lane.replicas)) != len(lane.replicas):
                self._note(now_s, "replicas", f"{lane.model}: {len(lane.replicas)}")
            self._replicas[lane.model] = len(lane.replicas)

    def _note(self, at_s: float, kind: str, detail: str) -> None:
        self.seen.append(Change(at_s, kind, detail))
