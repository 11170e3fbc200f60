"""
What became of one attempt to deliver: `Delivered`, `Retry` or `Failed`, and the protocol that returns them.

A channel never raises for what a provider or a network does: whoever sends to several channels must not lose the
second one to the first. HTTP 200 is not delivery; the code in the body decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from slo.watch.delivery.sinks.limiter import Limit
from slo.watch.model.notification import Notification


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
