"""
Each send in a thread of its own, one at a time for each channel, and nobody waits longer than a bound for it.

A channel is to end by itself (`sinks/transport.py`), but a console whose pipe nobody reads, or a file on a dead share,
does not. Such a channel is left alone until its thread comes back; the threads keep no process from ending.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from slo.watch.delivery.sinks.outcome import Diagnosis, Outcome, Retry, Sink
from slo.watch.model.notification import Notification

LONGEST_SEND_S = 40.0
Job = TypeVar("Job")

HANGS = Diagnosis(
    "通道卡住：发送迟迟不返回，其他通道不受影响；检查对端、管道或挂载的磁盘",
    "the channel hangs, others go on: look at the receiver, the pipe or the mounted disk",
)


@dataclass(slots=True, eq=False)
class _Send(Generic[Job]):
    channel: str
    job: Job
    ends_s: float
    outcome: Outcome | None = None


class Senders(Generic[Job]):
    """Threads for sends. `bound_s` is real time: no other clock tells when a thread has hung for too long."""

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._ended: queue.SimpleQueue[_Send[Job]] = queue.SimpleQueue()
        self._under_way: dict[str, _Send[Job]] = {}
        self._hanging: dict[str, _Send[Job]] = {}

    @property
    def waiting(self) -> bool:
        """Is anything under way that has time left?"""
        return bool(self._under_way)

    def free(self, channel: str) -> bool:
        """Has `channel` nothing under way?"""
        return channel not in self._under_way and channel not in self._hanging

    def hangs(self, channel: str) -> bool:
        """Has its last send not come back in time, nor since?"""
        return channel in self._hanging

    def start(self, channel: str, job: Job, send: Callable[[], Outcome]) -> None:
        """Send in a new thread. `send` never raises."""
        entry = _Send(channel, job, time.monotonic() + self._bound_s)

        def run() -> None:
            entry.outcome = send()
            self._ended.put(entry)

        threading.Thread(target=run, name=f"to {channel}", daemon=True).start()
        self._under_way[channel] = entry

    def ended(self, wait_s: float) -> list[tuple[str, Job, Outcome, bool]]:
        """Channel, job and outcome of sends that ended, or whose time is over; at least one after `wait_s`, or none.

        The last value says that a send came back that was given up before.
        """
        hung = Retry(reason=f"no end within {self._bound_s:g} s", doubtful=True, diagnosis=HANGS)
        found: list[tuple[str, Job, Outcome, bool]] = []
        for entry in self._taken(wait_s):
            late = self._hanging.pop(entry.channel, None) is not None
            self._under_way.pop(entry.channel, None)
            found.append((entry.channel, entry.job, entry.outcome or hung, late))
        now_s = time.monotonic()
        for channel, entry in list(self._under_way.items()):
            if now_s >= entry.ends_s:
                self._hanging[channel] = self._under_way.pop(channel)
                found.append((channel, entry.job, hung, False))
        return found

    def _taken(self, wait_s: float) -> list[_Send[Job]]:
        taken = []
        try:
            taken.append(self._ended.get(timeout=wait_s) if wait_s > 0 else self._ended.get_nowait())
            while True:
                taken.append(self._ended.get_nowait())
        except queue.Empty:
            return taken


def attempt(sink: Sink, notification: Notification, now: float) -> Outcome:
    """One send that never raises: a defect in one channel must not silence the others."""
    try:
        return sink.send(notification, now)
    except Exception as error:  # noqa: BLE001 - see above
        # Its text is left out: nobody has masked it.
        return Retry(reason=f"defect in this channel: {type(error).__name__}", doubtful=True)
