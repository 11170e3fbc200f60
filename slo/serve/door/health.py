"""
Is a model process fit to serve, and which texts are to blame if it is not? Pure: the clock is an argument.

One judgement for all ways in which a process can be of no use, from signs of progress alone:

    killed         the call on it ends: it is lost, nothing has to be judged
    hung           its status is not answered
    wedged         its status is answered, but a pass takes many times what was predicted
    failing fast   its passes fail in a row, and then a test with a text that is known to be good
    slow           its passes take several times as long as those of the others, by the same prediction
    leaving        it said itself that it takes no more: drained, and left alone

A process that still computes (processor time advances, or it waits for a processor or a disk) is given more time than
one that sleeps or is stopped, and one that had to be ended lately more than before, so that a wrong judgement does not
repeat itself. Time in which the judge itself stood still counts against nobody.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from enum import Enum

Identity = tuple[str, str]  # uid and address

SILENT_S = 2.5  # without a status for so long, a process gets no more passes
COMPUTING = 2.5  # times the patience for a process that computes
OVERDUE = 10.0  # times its prediction: attention grows with the square of a text, the prediction does not
FAILURES = 3  # in a row, before the process is tested
SLOW = 5.0  # times the others
SLOW_PASSES = 30  # that a process must have finished, before its speed is judged
STALL_S = 2.0  # the judge looks several times a second; a longer gap means that it stood still itself
PAUSE_S = 5.0  # before the next one that only fails is ended; doubled with each
MEMORY_S = 600.0  # how long ended processes and blamed texts are remembered
BLAMED = 2  # processes that died during a text make it one that is not computed


class Fitness(Enum):
    """FIT serves. DOUBTED serves if no other does. SILENT does not serve. DEAD is to be ended. LEAVING ends itself."""

    FIT = 1
    DOUBTED = 2
    SILENT = 3
    DEAD = 4
    LEAVING = 5


@dataclass(frozen=True, slots=True)
class HealthVerdict:
    """What is thought of a process, and why; `test` asks for a pass with a known text."""

    fitness: Fitness
    reason: str = ""
    test: bool = False


@dataclass(slots=True)
class Signs:
    """Signs of life of one process, in seconds on the judge's clock."""

    answered_s: float
    progress_s: float  # the last pass ended, or the one that runs began
    passes_s: deque[float] = field(default_factory=deque)  # predicted, of those that are out
    failures: int = 0  # in a row
    finished: int = 0
    slowness: float = 0.0  # logarithm of real by predicted time, exponentially forgotten
    broken: str = ""  # why its test failed
    leaving: bool = False
    verdict: HealthVerdict = HealthVerdict(Fitness.FIT)


class Health:
    """Of all processes of one model. `patience_s`: how long one that does nothing is waited for; 0: for ever."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._signs: dict[Identity, Signs] = {}
        self._ended: dict[str, deque[tuple[Identity, float]]] = {}  # by uid
        self._ticked_s: float | None = None
        self._lost_s = 0.0

    def tick(self, now_s: float) -> None:
        """The judge is awake. To be called regularly: time that it missed counts against nobody."""
        if self._ticked_s is not None and now_s - self._ticked_s > STALL_S:
            self._lost_s += now_s - self._ticked_s
        self._ticked_s = now_s

    def started(self, who: Identity, now_s: float, predicted_s: float) -> None:
        """A pass is handed over."""
        signs = self._of(who, now_s)
        if not signs.passes_s:
            signs.progress_s = self._counted(now_s)
        signs.passes_s.append(predicted_s)

    def ended(self, who: Identity, now_s: float, *, ok: bool | None) -> None:
        """The oldest pass is back: well, failed, or (None) lost without a result."""
        signs, counted_s = self._of(who, now_s), self._counted(now_s)
        predicted_s = signs.passes_s.popleft() if signs.passes_s else 0.0
        took_s, signs.progress_s = counted_s - signs.progress_s, counted_s
        if ok:
            signs.failures, signs.broken = 0, ""
            signs.finished += 1
            if predicted_s > 0:  # the logarithm: one pass that stalls does not make a process slow
                signs.slowness += (math.log(max(took_s, 1e-6) / predicted_s) - signs.slowness) * 0.05
        elif ok is not None:
            signs.failures += 1

    def excuse(self, who: Identity) -> None:
        """Its last failure was the texts' fault: they fail elsewhere, too."""
        if who in self._signs:
            self._signs[who].failures = max(0, self._signs[who].failures - 1)

    def answered(self, who: Identity, now_s: float) -> None:
        """It told its status."""
        self._of(who, now_s).answered_s = self._counted(now_s)

    def tested(self, who: Identity, fault: str | None) -> None:
        """The test is over; what was wrong, None if nothing."""
        if who in self._signs:
            self._signs[who].broken, self._signs[who].failures = fault or "", 0

    def left(self, who: Identity, now_s: float) -> None:
        """It says that it takes no more."""
        self._of(who, now_s).leaving = True

    def was_ended(self, who: Identity, now_s: float) -> None:
        """It was ended on our order; the next of its name is given more time."""
        self._ended.setdefault(who[0], deque(maxlen=8)).append((who, now_s))

    def keep(self, identities: Collection[Identity]) -> None:
        """Forget all other processes."""
        self._signs = {who: signs for who, signs in self._signs.items() if who in identities or signs.leaving}

    def fitness(self, who: Identity) -> Fitness:
        """As judged last."""
        signs = self._signs.get(who)
        if signs is None:
            return Fitness.FIT
        dead = signs.verdict.fitness is Fitness.DEAD
        return Fitness.LEAVING if signs.leaving and not dead else signs.verdict.fitness

    def quiet_s(self, who: Identity, now_s: float) -> float:
        """Seconds since the last sign of life: worth a closer look when long."""
        signs, counted_s = self._of(who, now_s), self._counted(now_s)
        return max(counted_s - signs.answered_s, counted_s - signs.progress_s if signs.passes_s else 0.0)

    def judge(self, who: Identity, now_s: float, *, computing: bool) -> HealthVerdict:
        """`computing`: the process was seen to use the processor, or to wait for it."""
        signs = self._of(who, now_s)
        signs.verdict = self._judge(who, signs, now_s, COMPUTING if computing else 1.0)
        return signs.verdict

    def _judge(self, who: Identity, signs: Signs, now_s: float, factor: float) -> HealthVerdict:
        counted_s = self._counted(now_s)
        silent_s = counted_s - signs.answered_s
        running_s = counted_s - signs.progress_s if signs.passes_s else 0.0
        predicted_s = signs.passes_s[0] if signs.passes_s else 0.0
        ended_s = self._recent(who, now_s)
        recent = len(ended_s)
        factor *= 2 if recent else 1
        rested = not recent or now_s - ended_s[-1] >= PAUSE_S * 2**recent
        slow = self._slowness(who, signs)
        running = f"a pass predicted to take {predicted_s * 1000:.0f} ms has been running for {running_s:.1f} s"
        deadly = {
            f"no sign of life for {silent_s:.1f} s": silent_s >= self._patience_s * factor,
            running: running_s >= max(self._patience_s, OVERDUE * predicted_s) * factor,
            f"its passes fail: {signs.broken}": signs.broken and rested,
            f"{slow:.0f} times slower than the others": slow >= SLOW and not recent,
        }
        doubtful = {
            f"{signs.failures} passes in a row failed": signs.failures >= FAILURES,
            f"its passes fail: {signs.broken}": signs.broken,
            running: running_s >= max(SILENT_S, OVERDUE * predicted_s),
            f"{slow:.0f} times slower than the others": slow >= SLOW,
        }
        if self._patience_s and (reason := _first(deadly)):
            return HealthVerdict(Fitness.DEAD, reason)
        if signs.leaving:
            return HealthVerdict(Fitness.LEAVING, "it is being stopped")
        if silent_s >= SILENT_S:
            return HealthVerdict(Fitness.SILENT, f"no status for {silent_s:.1f} s")
        if reason := _first(doubtful):
            return HealthVerdict(Fitness.DOUBTED, reason, test=bool(signs.broken) or signs.failures >= FAILURES)
        return HealthVerdict(Fitness.FIT)

    def _recent(self, who: Identity, now_s: float) -> list[float]:
        """When processes of this name that were there before had to be ended, lately."""
        ended = self._ended.get(who[0], ())
        return [ended_s for other, ended_s in ended if other != who and now_s - ended_s < MEMORY_S]

    def _slowness(self, who: Identity, signs: Signs) -> float:
        """How many times slower than the fastest of the others; 1 while that cannot be said."""
        seen = [other.slowness for name, other in self._signs.items() if name != who and other.finished >= SLOW_PASSES]
        return math.exp(signs.slowness - min(seen)) if seen and signs.finished >= SLOW_PASSES else 1.0

    def _counted(self, now_s: float) -> float:
        return now_s - self._lost_s

    def _of(self, who: Identity, now_s: float) -> Signs:
        signs = self._signs.get(who)
        if signs is None:
            counted_s = self._counted(now_s)
            signs = self._signs[who] = Signs(counted_s, counted_s)
        return signs


def _first(reasons: Mapping[str, object]) -> str:
    """The first that holds; empty if none does."""
    return next((reason for reason, holds in reasons.items() if holds), "")


class Blame:
    """Texts during which processes died. A suspect is computed alone; one that is `BLAMED` is not computed at all."""

    MOST = 4096

    def __init__(self) -> None:
        self._deaths: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def died(self, text: str, now_s: float) -> int:
        """A process died during this text; how many so far."""
        count = self.deaths(text, now_s) + 1
        self._deaths[hash(text)] = (count, now_s)
        self._deaths.move_to_end(hash(text))
        while len(self._deaths) > self.MOST:
            self._deaths.popitem(last=False)
        return count

    def deaths(self, text: str, now_s: float) -> int:
        """Processes that died during this text of late."""
        if not self._deaths:
            return 0
        count, since_s = self._deaths.get(hash(text), (0, now_s))
        return count if now_s - since_s < MEMORY_S else 0

    def clear(self, text: str) -> None:
        """It was computed: it is none of those."""
        if self._deaths:
            self._deaths.pop(hash(text), None)
