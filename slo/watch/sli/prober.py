"""
Probes all the time: at random moments over the whole interval, so that what stalls the service for a part of each
minute, or of every ten seconds, is met as often as users meet it.

A thread sends them when they are due, whatever became of those before; a probe that is late is late, as a user's
request would be (an open loop), and one that is not answered in time is bad without being waited for. A few go to the
texts whose vectors are known (see `golden`). The watch takes what has come of them with each round.
"""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue

from slo.client import EmbeddingsClient
from slo.clock import Clock
from slo.errors import BadAnswer, RequestError, RequestTimeout
from slo.objective import Objective
from slo.samples import Sample
from slo.texts import Text
from slo.watch.sli.golden import TEXTS, Golden, Seen
from slo.watch.sli.probe import ProbeTally

FIRST = 0.1  # of the interval: the first probes come quickly, one after another, so that the first line does
TRICKLE = 9  # probes an interval where users' own requests are judged: enough to see wrong vectors in two minutes
MOST_AT_ONCE = 16
OURS_S = 1.0  # a probe that we are this late with ourselves (a stopped process) is left out


@dataclass(slots=True)
class ProbeRequest:
    """One request, and what has come of it; `golden` is the index of a known text, `first`: it is of the first ones."""

    text: Text
    golden: int | None
    due_s: float
    first: bool = False
    sent_s: float = 0.0
    done_s: float | None = None
    cached: bool = False
    vector: list[float] | None = None
    error: RequestError | None = None

    def sample(self) -> Sample:
        """The probe as a request; an unanswered one is done when it is asked for."""
        done_s = self.due_s if self.done_s is None else self.done_s
        outcome = self.error.outcome if self.error else "ok"
        return Sample(self.due_s, self.sent_s or self.due_s, done_s, outcome, self.text.length_class, self.cached)


class Prober:
    """Probes from `start` to `close`. `connect` opens a connection whose requests end within `patience_s`.

    `probes` an interval are sent at full pace.
    """

    def __init__(
        self,
        connect: Callable[[], EmbeddingsClient],
        texts: Iterator[Text],
        objective: Objective,
        golden: Golden,
        *,
        probes: int,
        interval_s: float,
        patience_s: float,
        clock: Clock,
        chance: random.Random | None = None,
    ) -> None:
        self._connect, self._texts, self._objective, self._golden = connect, texts, objective, golden
        self._probes, self._interval_s, self._patience_s = probes, interval_s, patience_s
        self._clock, self._chance = clock, chance or random.Random()
        self._full = True
        self._stop = threading.Event()
        self._change = threading.Condition()
        self._open: deque[ProbeRequest] = deque()
        self._queue: SimpleQueue[ProbeRequest | None] = SimpleQueue()
        self._workers = self._idle = 0
        self._begun = False  # the first probes have all been sent
        self._fresh = True  # and nobody has asked for them yet
        self._mistake: Exception | None = None
        self._wakes_s = math.inf  # when the thread that sends is to go on; infinite while it does not wait

    def __enter__(self) -> Prober:
        threading.Thread(target=self._conduct, name="prober", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send no more; whoever still waits for an answer is left alone."""
        self._stop.set()
        for _worker in range(self._workers):
            self._queue.put(None)

    def pace(self, full: bool) -> None:
        """From the next interval on: all probes, or those that correctness needs."""
        self._full = full

    def harvest(self) -> ProbeTally:
        """What has come of the probes since the last call; the first call waits for the first probes.

        Raises `Unauthorized` when a key was rejected: then nothing was measured.
        """
        first, self._fresh = self._fresh, False
        if first:
            self._first()
        now_s = self._clock.monotonic()
        with self._change:
            if self._mistake is not None:
                raise self._mistake
            self._leave_out_halt(now_s)
            ended = [probe for probe in self._open if self._ended(probe, now_s) and probe.first >= first]
            taken = set(map(id, ended))
            self._open = deque(probe for probe in self._open if id(probe) not in taken)
        return self._judged(ended)

    def _first(self) -> None:
        bound_s = self._clock.monotonic() + self._interval_s * FIRST + 2 * self._patience_s
        with self._change:
            while (left_s := bound_s - self._clock.monotonic()) > 0 and self._mistake is None:
                if self._begun and all(probe.done_s is not None for probe in self._open if probe.first):
                    break
                self._change.wait(min(left_s, 0.2))

    def _ended(self, probe: ProbeRequest, now_s: float) -> bool:
        return probe.done_s is not None or now_s - probe.due_s > self._patience_s

    def _judged(self, ended: list[ProbeRequest]) -> ProbeTally:
        tally = ProbeTally(self._objective, opened=True)
        tally.sent = len(ended)
        seen = [probe for probe in ended if probe.vector is not None]
        reasons = self._golden.judge([Seen(probe.vector or [], probe.golden) for probe in seen])
        wrong = {id(probe): reason for probe, reason in zip(seen, reasons, strict=True) if reason}
        for probe in ended:
            if id(probe) in wrong:
                probe.error = BadAnswer(f"wrong vectors: {wrong[id(probe)]}", url="")
            if probe.done_s is None:
                probe.error = RequestTimeout(f"no answer within {self._patience_s:g} s", url="")
            if probe.golden is None:
                tally.add(probe.sample(), probe.error)
            else:
                tally.look_at(probe.error)
        return tally

    def _plan(self, begin_s: float, length_s: float) -> list[ProbeRequest]:
        """The probes of one interval, in order."""
        number = self._probes if self._full else min(TRICKLE, self._probes)
        due = sorted(begin_s + self._chance.random() * length_s for _ in range(number + len(TEXTS)))
        places = self._chance.sample(range(len(due)), len(TEXTS))
        if not self._begun:
            places = [0, *(place for place in places if place)][: len(TEXTS)]  # opens the connection
        golden = dict(zip(places, range(len(TEXTS)), strict=False))
        return [self._probe(due_s, golden.get(place)) for place, due_s in enumerate(due)]

    def _probe(self, due_s: float, golden: int | None) -> ProbeRequest:
        text = next(self._texts) if golden is None else Text(TEXTS[golden][1], TEXTS[golden][0])
        return ProbeRequest(text, golden, due_s, first=not self._begun)

    def _conduct(self) -> None:
        begin_s, length_s = self._clock.monotonic(), self._interval_s * FIRST
        while not self._stop.is_set():
            for probe in self._plan(begin_s, length_s):
                if self._pause(probe.due_s):
                    return
                if self._clock.monotonic() - probe.due_s < OURS_S or probe.first:
                    self._send(probe)
                if probe.first and not self._answered(probe, begin_s + length_s + self._patience_s):
                    break
            if self._pause(begin_s + length_s):
                return
            with self._change:
                self._begun = True
                self._change.notify_all()
            now_s = self._clock.monotonic()  # what was not sent while we were late is not sent all at once
            begin_s, length_s = begin_s + length_s if now_s - begin_s - length_s < OURS_S else now_s, self._interval_s

    def _pause(self, until_s: float) -> bool:
        """Wait; True when this is to end."""
        with self._change:
            self._wakes_s = max(until_s, now_s := self._clock.monotonic())
        ends = self._stop.wait(max(0.0, until_s - now_s))
        with self._change:
            self._leave_out_halt(self._clock.monotonic())
            self._wakes_s = math.inf
        return ends

    def _leave_out_halt(self, now_s: float) -> None:
        """Where this process itself was halted (SIGSTOP, a suspended machine), what it waited for has no latency."""
        if now_s - self._wakes_s > OURS_S:
            halt_s, self._wakes_s = self._wakes_s, now_s
            self._open = deque(
                probe for probe in self._open
                if probe.due_s > halt_s or (probe.done_s is not None and probe.done_s <= halt_s)
            )  # fmt: skip

    def _answered(self, probe: ProbeRequest, until_s: float) -> bool:
        """Wait for one of the first probes: so many in so short a time must not overload the server themselves."""
        with self._change:
            while probe.done_s is None and (left_s := until_s - self._clock.monotonic()) > 0:
                if self._stop.is_set() or self._mistake is not None:
                    return False
                self._change.wait(min(left_s, 0.2))
        return self._clock.monotonic() < until_s

    def _send(self, probe: ProbeRequest) -> None:
        with self._change:
            probe.due_s = self._clock.monotonic()  # how late this thread wakes up is nobody's latency
            self._open.append(probe)
            if self._idle <= self._queue.qsize() and self._workers < MOST_AT_ONCE:
                self._workers += 1
                self._idle += 1
                threading.Thread(target=self._work, name="probe", daemon=True).start()
        self._queue.put(probe)

    def _work(self) -> None:
        try:
            with self._connect() as client:
                while (probe := self._queue.get()) is not None:
                    with self._change:
                        self._idle -= 1
                    self._ask(client, probe)
                    with self._change:
                        self._idle += 1
                        self._change.notify_all()
        except Exception as error:  # noqa: BLE001 - the main thread raises it, with the next harvest
            with self._change:
                self._mistake = error
                self._change.notify_all()

    def _ask(self, client: EmbeddingsClient, probe: ProbeRequest) -> None:
        probe.sent_s = self._clock.monotonic()
        try:
            answer = client.embed(probe.text.value, fresh=probe.golden is not None)
            probe.vector, probe.cached = answer.vectors[0], answer.cached
        except RequestError as error:
            probe.error = error
        probe.done_s = self._clock.monotonic()
