"""
Active probes: real requests with unique texts, sent one after another, and the tally of what came back.

A probe is due when the one before it is done and a random pause has passed, so it measures what one more user would
have waited, and whatever stalls the service at regular times is met as often as users meet it. Three
failures in a row are an **outage**: the service gives nobody an answer, and asking on would only take time. A 429
does not count towards it, for a server that sheds load is up. A rejected key is not the service's failure at all: it
ends the probing with `Unauthorized`, since nothing was measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from slo.client import EmbeddingsClient
from slo.clock import Clock
from slo.errors import BadAnswer, Refused, RequestError, Unauthorized
from slo.interrupt import TimeUp, wall_limit
from slo.measure import one_by_one
from slo.objective import Objective
from slo.samples import Sample
from slo.stats import Histogram, edges_with, nearest_rank
from slo.texts import Text
from slo.watch.model.counts import Counts, Minute
from slo.watch.model.objectives import Goal

FAILURES_OF_AN_OUTAGE = 3
PAUSE_AFTER_FAILURE_S = 0.2  # a refused connection fails in microseconds; give a restarting server a moment


class ProbeTally:
    """Counts over the probes of one check.

    The first answer only opens the connection and is not counted, as users keep theirs open; a failure always is.
    `opened`: that has been done. Nor is an answer from a cache counted, which says nothing about the model.
    `truncated` are texts of users that were longer than the model takes, where the server says so.
    `looked_at` and `right` are of answers whose vectors were looked at; `sent` are all that the server has had.
    """

    def __init__(self, objective: Objective, *, opened: bool = False) -> None:
        self.objective = objective
        self.good = 0
        self.total = 0
        self.cached = 0
        self.latencies_ms: list[float] = []  # of the counted probes; infinity for a failure
        self.failures: Counter[str] = Counter()
        self.last_error: RequestError | None = None
        self.looked_at = self.right = self.sent = self.truncated = 0
        self._opened = opened
        self._in_a_row = 0

    @property
    def bad(self) -> int:
        return self.total - self.good

    @property
    def outage(self) -> bool:
        """Did the last three probes bring nothing?"""
        return self._in_a_row >= FAILURES_OF_AN_OUTAGE

    @property
    def failing(self) -> bool:
        """Did the last probe fail?"""
        return self._in_a_row > 0

    @property
    def latency_ms(self) -> float:
        """The percentile that the objective names, by nearest rank; NaN without probes."""
        return nearest_rank(sorted(self.latencies_ms), self.objective.target)

    def add(self, sample: Sample, error: RequestError | None) -> None:
        """Count one probe. Raises `Unauthorized` when that is what `error` is."""
        self.look_at(error)
        opening, self._opened = not self._opened, True
        if error is not None:
            self.last_error = error
            self.failures[sample.outcome] += 1
            self._in_a_row = 0 if isinstance(error, Refused) else self._in_a_row + 1
        else:
            self._in_a_row = 0
            self.cached += sample.cached
            if opening or sample.cached:
                return
        self.total += 1
        self.good += sample.good(self.objective)
        self.latencies_ms.append(sample.latency_ms if sample.ok else float("inf"))

    def look_at(self, error: RequestError | None) -> None:
        """Count the vectors of one answer as right, or as wrong. Raises `Unauthorized` when that is what `error` is."""
        if isinstance(error, Unauthorized):
            raise error
        if error is None or isinstance(error, BadAnswer):
            self.looked_at += 1
            self.right += error is None
            self.last_error = error or self.last_error

    def lose(self, probes: int) -> None:
        """Count `probes` that an outage left unsent: each would have failed as those before it did."""
        self.total += probes
        self.latencies_ms += [float("inf")] * probes
        self.failures["unsent"] += probes


def gather(
    client: EmbeddingsClient,
    texts: Iterator[Text],
    objective: Objective,
    *,
    enough: Callable[[ProbeTally], bool],
    bound_s: float,
    clock: Clock,
    pause_s: Callable[[], float] = lambda: 0.0,
) -> tuple[ProbeTally, bool]:
    """Probe until `enough(tally)` or an outage; True with the tally when `bound_s` ended it instead.

    `pause_s()` gives the seconds to wait before each probe.

    `bound_s` is a wall bound: it holds even against a server that sends its answer a byte at a time.
    """
    tally, end_s = ProbeTally(objective), clock.monotonic() + bound_s

    def wanted() -> Iterator[Text]:
        while clock.monotonic() < end_s and not (enough(tally) or tally.outage):
            if tally.failing:
                clock.sleep(PAUSE_AFTER_FAILURE_S)
            elif pause := pause_s():
                clock.sleep(pause)
            yield next(texts)

    try:
        with wall_limit(bound_s):
            one_by_one(client, wanted(), clock=clock, on_sample=tally.add)
    except TimeUp:
        return tally, True
    return tally, not (enough(tally) or tally.outage)


def probe_batch(
    client: EmbeddingsClient,
    texts: Iterator[Text],
    objective: Objective,
    *,
    probes: int,
    bound_s: float,
    clock: Clock,
    spread_s: float = 0.0,
) -> ProbeTally:
    """`probes` probes, or as many as `bound_s` allows; those that an outage left unsent count as bad.

    Their pauses are random and together about `spread_s` long.
    """
    chance, mean_s = random.Random(), spread_s / probes
    tally, late = gather(
        client, texts, objective, enough=lambda tally: tally.total >= probes, bound_s=bound_s, clock=clock,
        # Exponential, as users come; cut, so that the whole stays near its length.
        pause_s=lambda: min(chance.expovariate(1 / mean_s), 5 * mean_s) if mean_s else 0.0,
    )  # fmt: skip
    if tally.outage or (late and not tally.total):
        tally.lose(probes - tally.total)
    return tally


def minutes_of_probes(
    tally: ProbeTally, goals: tuple[Goal, ...], start_s: int, length_s: int, *, counted: bool
) -> list[Minute]:
    """The probes of one round as a slice, if there are any; not `counted`, they tell of vectors alone."""
    checked = Counts(tally.right, tally.looked_at)
    if not counted or not tally.total:
        only = Minute(start_s=start_s, source="probe", length_s=length_s, checked=checked)
        return [only] if checked.total else []
    return [_minute_of(tally, goals, start_s, length_s, checked)]


def _minute_of(tally: ProbeTally, goals: tuple[Goal, ...], start_s: int, length_s: int, checked: Counts) -> Minute:
    histogram = Histogram(edges_with(goal.threshold_ms for goal in goals if goal.threshold_ms is not None))
    answered = [value for value in tally.latencies_ms if value != float("inf")]
    for value in answered:
        histogram.observe(value / 1000)
    return Minute(
        start_s=start_s,
        source="probe",
        length_s=length_s,
        histogram=histogram,
        outcomes=dict(tally.failures),
        good={
            goal.event: sum(value <= goal.threshold_ms for value in answered)
            for goal in goals
            if goal.threshold_ms is not None
        },
        checked=checked,
    )


def _add_users(tally: ProbeTally, minute: Minute, latency: Goal) -> None:
    """Count a slice of users' requests in `tally`, if it can be judged. Their latencies stay in its histogram."""
    counts = minute.counts(latency)
    if counts is None:
        return
    tally.good += counts.good
    tally.total += counts.total
    tally.failures.update(minute.failures)


def _failures(minutes: list[Minute]) -> dict[str, Any]:
    """Outcomes and number of all requests of the round: passive evidence knows only its own."""
    outcomes: dict[str, int] = {}
    for minute in minutes:
        for name, count in minute.failures.items():
            outcomes[name] = outcomes.get(name, 0) + count
    return {"outcomes": outcomes, "requests": sum(minute.total for minute in minutes)}
