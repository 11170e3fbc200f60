"""
Delivery beside the watch: a thread that sends what the outbox holds as soon as it is due.

A round comes once a minute and may hang on a server that does; a retry after five seconds, the second message of a
crowd, or the repeat that Alertmanager needs cannot wait for that. The dispatcher has a connection of its own to the
outbox, which is made for several senders, and keeps `notifications.prom` beside it for Prometheus. Nothing ends it but
its owner: without it no alert would be sent again, and nobody would notice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from slo.clock import Clock, SystemClock
from slo.errors import SloError
from slo.files import write_atomically
from slo.watch.delivery.outbox import Outbox
from slo.watch.delivery.policy import Attempt

METRICS_FILE = "notifications.prom"
_LONGEST_REST_S = 5.0  # another process may have put something in
_SHORTEST_REST_S = 0.1
_LAST_WORDS_S = 5.0
_LATELY_S = 120.0  # longer than any channel takes to fail


class Dispatcher:
    """Runs between `with` and its end, when it has a few more seconds for what is due.

    `open_box` gives the dispatcher's own outbox; it is called in its thread. `report` hears of every attempt and
    `complain`, once for each kind of trouble, of what keeps it from sending; it tries again.
    """

    def __init__(
        self,
        open_box: Callable[[], AbstractContextManager[Outbox]],
        state_dir: Path,
        *,
        report: Callable[[Attempt], None],
        complain: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        self._open_box = open_box
        self._metrics = state_dir / METRICS_FILE
        self._report = report
        self._complain = complain
        self._clock = clock or SystemClock()
        self._worked_s = self._clock.monotonic()
        self._box: Outbox | None = None
        self._trouble = ""  # that was complained of
        self._written = ""
        self._woken = threading.Event()
        self._stopped = False
        # Not a daemon: what it claimed it also marks, unless the process is killed.
        self._thread = threading.Thread(target=self._run, name="dispatcher")

    def __enter__(self) -> Dispatcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self.wake()
        self._thread.join()

    def wake(self) -> None:
        """Something was put in: look now."""
        self._woken.set()

    def at_work(self) -> bool:
        """Did it lately send something, or see that there is nothing to send?"""
        box = self._box  # the thread may put another in its place
        if box is not None:
            self._worked_s = max(self._worked_s, box.worked_s)
        return self._clock.monotonic() - self._worked_s < _LATELY_S

    def _run(self) -> None:
        while not self._stopped:
            try:
                with self._open_box() as box:
                    self._box = box
                    self._serve(box)
            except SloError as error:
                self._rest(error.message)
            except OSError as error:
                self._rest(error.strerror or type(error).__name__)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next alert must find somebody
                # Its text is left out: nobody has masked it.
                self._rest(type(error).__name__)

    def _rest(self, trouble: str) -> None:
        if trouble != self._trouble:
            with suppress(Exception):  # told when it can be: standard error may lie on the disk that is full
                self._complain(f"outbox: {trouble}; trying again")
                self._trouble = trouble
        self._woken.wait(_LONGEST_REST_S)
        self._woken.clear()

    def _serve(self, box: Outbox) -> None:
        while not self._stopped:
            self._woken.clear()
            self._tell(box, [])  # the figures are there, at zero, before the first attempt
            self._tell(box, box.pump())
            self._trouble = ""
            rest_s = box.next_in_s()
            longest = _LONGEST_REST_S if rest_s is None else min(rest_s, _LONGEST_REST_S)
            if not self._stopped:  # set before the wake that `clear` may have swallowed
                self._woken.wait(max(_SHORTEST_REST_S, longest))
        self._tell(box, box.drain(_LAST_WORDS_S))

    def _tell(self, box: Outbox, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self._report(attempt)
        text = box.metrics()  # a retry by hand changes it as well
        if text != self._written or not self._metrics.exists():
            write_atomically(self._metrics, text)
            self._written = text
