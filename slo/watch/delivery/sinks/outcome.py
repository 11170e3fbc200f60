"""
What became of one attempt to deliver: `Delivered`, `Retry` or `Failed`, and the protocol that returns them.

A channel never raises for what a provider or a network does: whoever sends to several channels must not lose the
second one to the first. HTTP 200 is not delivery; the code in the body decides.

How fast one robot may be spoken to, and when it must be left alone (`TokenBucket`): it starts full, holds `burst`
tokens and gains `per_minute − burst` a minute, so that no window of 60 seconds ever sees more than `per_minute`
messages, wherever it begins. A quarter of the bucket is kept for the urgent: critical alerts and resolves. When a
provider throttles in spite of that, a circuit opens and nothing is sent until it closes. What found no token is merged
into one digest a minute (`digest.py`). All times are wall-clock seconds, since the state outlives the process. A clock
that goes back gives no tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from slo.watch.model.notification import Notification

DIGEST_EVERY_S = 60.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one provider takes: `per_minute` messages, `burst` of them at once, `cost` messages for each send.

    `block_s` is how long it refuses everything after a throttle that names no time of its own.
    """

    per_minute: int = 20
    burst: int = 5
    reserve: float = 0.25
    cost: int = 1
    block_s: float = 60.0

    def __post_init__(self) -> None:
        if not 1 <= self.cost <= self.burst < self.per_minute:
            raise ValueError(f"a limit needs 1 ≤ cost ≤ burst < per_minute, not {self}")

    @property
    def refill_per_s(self) -> float:
        return (self.per_minute - self.burst) / 60


@dataclass(slots=True, kw_only=True)
class TokenBucket:
    """The state of one robot's limit: tokens at an instant, the circuit, and the last digest."""

    limit: Limit
    tokens: float
    at_s: float
    closed_until_s: float = 0.0
    last_digest_s: float = 0.0

    @classmethod
    def fresh(cls, limit: Limit, now: float) -> TokenBucket:
        """A gate through which nothing has gone yet."""
        return cls(limit=limit, tokens=limit.burst, at_s=now)

    def blocked(self, now: float) -> bool:
        """Is the circuit open: has the provider asked for silence?"""
        return now < self.closed_until_s

    def allows(self, now: float, *, urgent: bool) -> bool:
        """Could one send go now? Only the urgent may touch the reserve."""
        self._refill(now)
        return not self.blocked(now) and self.tokens + _ROUNDING >= self._needed(urgent)

    def take(self, now: float, *, urgent: bool) -> bool:
        """Pay for one send if `allows` says so."""
        if not self.allows(now, urgent=urgent):
            return False
        self.tokens -= self.limit.cost
        return True

    def take_digest(self, now: float) -> bool:
        """Pay for a digest, at most one a minute; it may use the reserve, since it empties the queue."""
        if now - self.last_digest_s < DIGEST_EVERY_S and now >= self.last_digest_s:
            return False
        if not self.take(now, urgent=True):
            return False
        self.last_digest_s = now
        return True

    def last_token(self, now: float) -> bool:
        """Is only one send left in the bucket?"""
        self._refill(now)
        return self.tokens + _ROUNDING < 2 * self.limit.cost

    def throttle(self, now: float, after_s: float | None) -> None:
        """The provider blocks this robot: send nothing for `after_s`, or its usual time."""
        self.tokens, self.at_s = 0.0, now
        self.closed_until_s = now + (self.limit.block_s if after_s is None else after_s)

    def next_s(self, now: float, *, urgent: bool) -> float:
        """The earliest instant at which `take` could succeed."""
        self._refill(now)
        missing = max(0.0, self._needed(urgent) - self.tokens)
        return max(self.closed_until_s, now + missing / self.limit.refill_per_s)

    def _needed(self, urgent: bool) -> float:
        kept = 0.0 if urgent else self.limit.reserve * self.limit.burst
        # A robot whose sends cost much of a small bucket could otherwise never afford an ordinary message.
        return min(self.limit.cost + kept, float(self.limit.burst))

    def _refill(self, now: float) -> None:
        gained = max(0.0, now - self.at_s) * self.limit.refill_per_s
        self.tokens = min(float(self.limit.burst), self.tokens + gained)
        self.at_s = now


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong and what to do about it, for the person who set the channel up."""

    zh: str
    en: str

    def __str__(self) -> str:
        return f"{self.zh} / {self.en}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The provider accepted the message. `detail` names what it did not do, such as a refused recipient."""

    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Not delivered, and worth another attempt.

    `after_s` is the provider's own advice. `throttled` means that it blocks this robot: nothing else should be sent
    to it either. `doubtful` means that the message may have arrived, since only the answer was lost.
    """

    reason: str
    after_s: float | None = None
    throttled: bool = False
    doubtful: bool = False
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Not delivered, and repeating it cannot help until somebody changes the set-up; or sends less, if `too_long`."""

    reason: str
    diagnosis: Diagnosis
    too_long: bool = False


Outcome = Delivered | Retry | Failed


class Sink(Protocol):
    """One channel. Its `repr` and every reason that it gives are free of secrets."""

    @property
    def limit(self) -> Limit | None:
        """How much the provider takes from this robot; None when it does not say."""
        ...

    @property
    def digest_bytes(self) -> int:
        """Room for the text of a digest."""
        ...

    @property
    def repeat_every_s(self) -> float | None:
        """How often a firing alert is sent again lest the receiver forget it; None when once is enough."""
        ...

    def send(self, notification: Notification, now: float) -> Outcome:
        """Try once. `now` is the wall clock in seconds, which signatures are made of."""
        ...
