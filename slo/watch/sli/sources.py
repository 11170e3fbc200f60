"""
Where a minute's counts come from, and when probes fill in. Never mixed silently: every row carries its source.

Passive counts come first: they are what users had. Where too few requests came (`needs_probes`), probes
are sent as well, for a verdict on three requests is none. Our probes pass through the server's own counters too, so
the counters are read again after probing, and the next difference starts there: no probe is counted as traffic. What
users sent during those seconds is left out, which only happens when they send little. As evidence of a cause the
probes are as good as anybody's requests: there they stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slo.clock import Clock
from slo.errors import RequestError
from slo.watch.sli.counts import Minute
from slo.watch.sli.exposition import Reading, parse_exposition, reading_from_json, spread

Fetch = Callable[[str], bytes]
LONGEST_GAP_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Harvest:
    """What one round brought. `problem` says why passive counts are missing; probes may still be there."""

    minutes: tuple[Minute, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def total(self) -> int:
        return sum(minute.total for minute in self.minutes)


class PassiveSource:
    """The extension's counters at `<endpoint>/slo/metrics`."""

    def __init__(
        self, fetch: Fetch, endpoint: str, *, model: str, clock: Clock, interval_s: float, threshold_ms: float
    ) -> None:
        self._fetch = fetch
        self._url = f"{endpoint.rstrip('/')}/slo/metrics"
        self._model = model
        self._clock = clock
        self._interval_s = int(interval_s)
        self._threshold_ms = threshold_ms
        self._last: tuple[float, Reading] | None = None
        self._round: Reading | None = None  # where the round that is being measured began

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue where the watcher before this one stopped, if it watched the same model at the same address."""
        if state and (state["url"], state["model"]) == (self._url, self._model):
            self._last = state["at_s"], reading_from_json(state["reading"])

    def state(self) -> dict[str, Any]:
        """What `restore` needs; to be kept in the transaction that stores the counts."""
        if self._last is None:
            return {}
        at_s, reading = self._last
        return {"url": self._url, "model": self._model, "at_s": at_s, "reading": reading.to_json()}

    def collect(self, start_s: int) -> Harvest:
        """Requests since the last reading, as slices up to the one that starts at `start_s`.

        The first reading ever brings none: nobody knows when those requests were. A server that does not answer, or
        has no such page, is a `problem`, not an error: probes must go on.
        """
        try:
            reading = self._read()
        except RequestError as error:
            return Harvest(problem=error.message)
        last, self._last = self._last, (self._clock.wall(), reading)
        self._round = reading if last is None else last[1]
        if last is None or not reading.edges_s:
            return Harvest()
        difference = reading.minus(last[1])
        minute = difference.minute(start_s=start_s, source="passive", length_s=self._interval_s)
        return Harvest(
            minutes=tuple(part for part in spread(minute, self._starts(last[0], start_s)) if part.total),
            evidence={**difference.evidence(self._threshold_ms), "cache_hit_ratio": difference.cache_hit_ratio},
        )

    def skip(self) -> Mapping[str, Any]:
        """Leave out what was counted since `collect`: our own probes. Evidence of the whole round, with them.

        Unreadable now: the next difference has them, and there is no evidence.
        """
        if self._last is None:
            return {}
        try:
            reading = self._read()
        except RequestError:
            # A server that fails right after probing: the probes' failures tell it; no counts, so none to leave out.
            self._last = self._clock.wall(), self._last[1]
            return {}
        self._last = self._clock.wall(), reading
        return {} if self._round is None else reading.minus(self._round).evidence(self._threshold_ms)

    def _read(self) -> Reading:
        return parse_exposition(self._fetch(self._url).decode("utf-8", "replace"), model=self._model, url=self._url)

    def _starts(self, last_s: float, start_s: int) -> list[int]:
        """Starts of the slices between the last reading and now; a gap beyond an hour counts as an hour."""
        gap_s = min(max(0.0, self._clock.wall() - last_s), LONGEST_GAP_S)
        count = max(1, round(gap_s / self._interval_s))
        return [start_s - self._interval_s * index for index in reversed(range(count))]


def needs_probes(passive: int, thin: int, *, interval_s: float, window_s: float) -> bool:
    """Did users send too little in this round to judge by, at `thin` requests per window?

    Of this round alone: a service that hangs answers nobody, and the requests of the minutes before must not keep the
    probes away until they have left the window.
    """
    return passive < thin * interval_s / window_s
