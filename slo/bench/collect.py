"""
What is noted while a load runs: every request once, in bounded memory.

Up to `keep` samples are kept whole; of more, a uniform random part (reservoir), while counts by class, per-second
figures and the good/bad sequence still cover all. Latency runs from the due moment. Answers from a cache are
counted apart. Warm-up requests appear in the series, marked, and nowhere else.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from slo.bench.answers import AnswerCheck
from slo.bench.exchange import OK, Exchange, Failures, Row, parse_timing
from slo.clock import Clock
from slo.errors import BadAnswer, Refused
from slo.http import LONGEST
from slo.objective import Objective
from slo.record_form import quantised
from slo.samples import Sample, Summary
from slo.stats import Integral, rank
from slo.tally import Tally, summaries_of

KEEP = 100_000
LATE_MS = 5.0
_NUMBER = re.compile(rb"\s*:\s*(\d{1,12})")
RECENT_S = 10.0  # what a live display looks back on
UNKNOWN, GOOD, BAD, CACHED = range(4)


class Second:
    """What became of the requests due within one step of the series."""

    __slots__ = ("cached", "due", "failed", "good", "in_flight", "late_ms", "latencies_ms", "refused", "warmup")

    def __init__(self, in_flight: int, *, warmup: bool) -> None:
        self.due = self.good = self.failed = self.refused = self.cached = 0
        self.in_flight = in_flight
        self.warmup = warmup
        self.late_ms = 0.0  # greatest lag of the generator
        self.latencies_ms = array("f")

    def row(self, t_s: float) -> dict[str, Any]:
        """For the record; percentiles over all that was computed or failed, None for one that is a failed request."""
        latencies = sorted(self.latencies_ms)
        count = len(latencies) + self.failed
        ranks = [rank(count, q) if count else 1 for q in (0.5, 0.95)]
        p50, p95 = (round(latencies[place - 1], 3) if place <= len(latencies) else None for place in ranks)
        return {
            "t": t_s, "due": self.due, "good": self.good, "failed": self.failed, "refused": self.refused,
            "cached": self.cached, "in_flight": self.in_flight, "p50_ms": p50, "p95_ms": p95,
            "lag_ms": round(self.late_ms, 3), "warmup": self.warmup,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What `Collector.turn` hands over; see the attributes of the same names."""

    lags_ms: Tally
    late: int
    stay_s: float
    area_s: float  # ∫ requests in flight dt
    stages: dict[str, Tally]
    refusals_ms: Tally
    inputs: int
    tokens: int | None
    failures: list[Row]


class Collector:
    """Hears of every exchange when it is dispatched and when it is done."""

    def __init__(
        self,
        objective: Objective,
        *,
        clock: Clock,
        check: AnswerCheck | None = None,
        keep: int = KEEP,
        step_s: float = 1.0,
        seed: int = 1,
    ) -> None:
        self.objective = objective
        self.started_s = quantised(clock.monotonic())
        self.measuring = False
        self.measured_from_s = float("nan")
        self.discarded = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.lags_ms = Tally()
        self.late = 0  # measured requests that left more than `LATE_MS` after they were due
        self.classes: dict[str, Tally] = {}
        self.cached = Tally()
        self.stages: dict[str, Tally] = {}
        self.stay_s = 0.0  # sum of dispatch → end over measured requests, for Little's law
        self.inputs = 0  # texts answered
        self.tokens = 0  # by the usage that the answers state
        self.tokens_known = True  # did each of them state it?
        self.flags = bytearray()  # UNKNOWN, GOOD, BAD or CACHED per measured request, in order of due time
        self.latencies_ms = array("f")  # of the same requests; ∞ for failures and as long as nothing is known
        self.kept: list[Sample] = []
        self.kept_sequence: list[int] = []
        self.recent: deque[tuple[float, float, bool]] = deque()  # done, latency in ms (∞ if failed), good
        self.listeners: list[Callable[[Exchange], None]] = []
        self.refusals_ms = Tally()  # how soon a refusal came
        self.failures = Failures()
        self.sent_digest = hashlib.sha256()  # of the measured requests' bodies, in order
        self._check = check
        self._keep, self._source = keep, random.Random(f"{seed}/reservoir")
        self._step_s = step_s
        self._seconds: dict[int, Second] = {}
        self._area = Integral()
        self._handed = 0  # measured requests begun before the last `turn`

    def measure(self, now_s: float) -> None:
        """The warm-up is over: what is due from now on counts."""
        self.measuring, self.measured_from_s = True, now_s
        self._area = Integral()

    def begin(self, exchange: Exchange) -> None:
        """`exchange` is being dispatched. Its times become those that a record can hold."""
        exchange.due_s = quantised(exchange.due_s)
        now = exchange.dispatched_s = quantised(exchange.dispatched_s)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        lag_ms = round((now - exchange.due_s) * 1000, 4)
        second = self._second(exchange)
        second.due += 1
        second.late_ms = max(second.late_ms, lag_ms)
        if self.measuring:
            exchange.measured = True
            exchange.sequence = self.sent
            self.flags.append(UNKNOWN)
            self.latencies_ms.append(math.inf)
            self.sent_digest.update(exchange.body)
            self.lags_ms.observe(lag_ms)
            self.late += lag_ms > LATE_MS
            self._area.change(now, +1)
        else:
            self.discarded += 1

    def finish(self, exchange: Exchange) -> None:
        """`exchange` has ended."""
        self.in_flight -= 1
        exchange.sent_s, exchange.done_s = quantised(exchange.sent_s), quantised(exchange.done_s)
        if exchange.outcome == OK and self._check is not None:
            exchange.outcome = self._check.outcome(exchange)
            if exchange.outcome != OK:
                exchange.complaint = exchange.answer[:LONGEST]
        tokens = tokens_of(exchange.answer) if exchange.outcome == OK else 0
        exchange.answer = b""
        sample = exchange.sample()
        good = sample.good(self.objective)
        self._note_second(exchange, sample, good=good)
        while self.recent and sample.done_s - self.recent[0][0] > RECENT_S:
            self.recent.popleft()
        self.recent.append((sample.done_s, sample.latency_ms if sample.ok else float("inf"), good))
        if exchange.measured:
            self._area.change(exchange.done_s, -1)
            self.stay_s += exchange.done_s - exchange.dispatched_s
            self._note(exchange, sample, good=good)
            self.tokens += tokens or 0
            self.tokens_known &= tokens is not None
        for listener in self.listeners:
            listener(exchange)

    def turn(self, now_s: float) -> Turn:
        """Hand over what no total needs, and start afresh with it: so a run of days stays small.

        Of requests that began before, only the counts by class and the kept samples go on.
        """
        turn = Turn(
            lags_ms=self.lags_ms, late=self.late, stay_s=self.stay_s, area_s=self._area.value(now_s),
            stages=self.stages, refusals_ms=self.refusals_ms, inputs=self.inputs,
            tokens=self.tokens if self.tokens_known else None, failures=self.failures.rows(),
        )  # fmt: skip
        self._handed += len(self.flags)
        self.flags.clear()
        self.latencies_ms = array("f")
        self._seconds.clear()
        self.lags_ms, self.refusals_ms, self.stages, self.failures = Tally(), Tally(), {}, Failures()
        self.late = self.inputs = self.tokens = 0
        self.tokens_known = True
        self.stay_s = 0.0
        self._area.restart(now_s)
        return turn

    @property
    def sent(self) -> int:
        """Measured requests that have begun."""
        return self._handed + len(self.flags)

    @property
    def total(self) -> int:
        """Measured requests that have ended, cached answers left out."""
        return sum(tally.total for tally in self.classes.values())

    @property
    def good(self) -> int:
        return sum(tally.good for tally in self.classes.values())

    def mark_wrong(self, sequence: int, length_class: str) -> None:
        """Afterwards an answer proved wrong: its request was bad, however fast."""
        tally = self.classes[length_class]
        tally.good -= self.flags[sequence - self._handed] == GOOD
        tally.failed[BadAnswer.outcome] += 1
        self.failures.add(BadAnswer.outcome, "wrong_vector")
        self.flags[sequence - self._handed] = BAD
        self.latencies_ms[sequence - self._handed] = math.inf
        if sequence in self.kept_sequence:
            index = self.kept_sequence.index(sequence)
            self.kept[index] = replace(self.kept[index], outcome=BadAnswer.outcome)

    def computed(self, *, settled: bool = False) -> tuple[list[int], list[float]]:
        """Was it bad, and its latency: of each request that was computed or failed, in order of due time.

        `settled`: up to the first that is still under way.
        """
        end = self.flags.find(UNKNOWN) if settled else -1
        counted = [place for place, flag in enumerate(self.flags[: end if end >= 0 else None]) if flag in (GOOD, BAD)]
        return [self.flags[place] - GOOD for place in counted], [self.latencies_ms[place] for place in counted]

    def samples(self) -> list[Sample]:
        """The kept samples in order of dispatch, which is that of due time, in seconds from the start of the run."""
        ordered = sorted(zip(self.kept_sequence, self.kept, strict=True), key=lambda pair: pair[0])
        return [_since(sample, self.started_s) for _, sample in ordered]

    def summaries(self, *, weight: float = 1.0) -> list[Summary]:
        """Per class, then overall, from exact counts; `weight` as in `summarize`."""
        return summaries_of(self.classes, self.objective, weight=weight)

    @property
    def thinned(self) -> bool:
        """Were there more samples than are kept?"""
        return self.sent > len(self.kept) == self._keep

    def mean_in_flight(self, until_s: float) -> float:
        """Time average of measured requests between dispatch and end, by integration."""
        span = until_s - self.measured_from_s
        return self._area.value(until_s) / span if span > 0 else float("nan")

    def series(self) -> list[dict[str, Any]]:
        """One row per step, by due time in seconds from the start of the run."""
        return [self._seconds[index].row(index * self._step_s) for index in sorted(self._seconds)]

    def window(self, now_s: float) -> list[tuple[float, float, bool]]:
        """What ended within the last `RECENT_S`."""
        while self.recent and now_s - self.recent[0][0] > RECENT_S:
            self.recent.popleft()
        return list(self.recent)

    def _note(self, exchange: Exchange, sample: Sample, *, good: bool) -> None:
        if sample.ok:
            self.inputs += exchange.inputs
        else:
            self.failures.note(exchange)
        if exchange.sequence >= self._handed:
            place = exchange.sequence - self._handed
            self.flags[place] = CACHED if sample.cached else GOOD if good else BAD
            self.latencies_ms[place] = sample.latency_ms if sample.ok else math.inf
        if sample.cached:
            self.cached.count(sample, self.objective)
        else:
            self.classes.setdefault(sample.length_class, Tally()).count(sample, self.objective)
        if sample.outcome == Refused.outcome:
            self.refusals_ms.observe(sample.service_ms)
        if exchange.timing:
            for name, milliseconds in parse_timing(exchange.timing):
                self.stages.setdefault(name, Tally()).observe(milliseconds)
        if len(self.kept) < self._keep:
            self.kept.append(sample)
            self.kept_sequence.append(exchange.sequence)
        elif (slot := self._source.randrange(exchange.sequence + 1)) < self._keep:
            self.kept[slot] = sample
            self.kept_sequence[slot] = exchange.sequence

    def _second(self, exchange: Exchange) -> Second:
        index = int(quantised(exchange.due_s - self.started_s) / self._step_s)
        if index not in self._seconds:
            self._seconds[index] = Second(self.in_flight - 1, warmup=not self.measuring)
        return self._seconds[index]

    def _note_second(self, exchange: Exchange, sample: Sample, *, good: bool) -> None:
        second = self._second(exchange)
        second.cached += sample.cached
        second.refused += sample.outcome == Refused.outcome
        if not sample.ok:
            second.failed += 1
        elif not sample.cached:
            second.good += good
            second.latencies_ms.append(sample.latency_ms)


def _since(sample: Sample, start_s: float) -> Sample:
    """The same with times counted from `start_s`."""
    return replace(
        sample,
        due_s=quantised(sample.due_s - start_s),
        sent_s=quantised(sample.sent_s - start_s),
        done_s=quantised(sample.done_s - start_s),
        dispatched_s=None if sample.dispatched_s is None else quantised(sample.dispatched_s - start_s),
    )


def tokens_of(answer: bytes) -> int | None:
    """`usage.prompt_tokens` of an answer, found without parsing all of it; None where it does not say."""
    at = answer.rfind(b'"prompt_tokens"')
    found = _NUMBER.match(answer, at + 15) if at >= 0 else None
    return int(found.group(1)) if found else None
