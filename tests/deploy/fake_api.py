"""Xinference's management API as a launch sees it, on a manual clock: a model lives, dies, and comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from slo.clock import ManualClock
from slo.deploy.xinference_api import Ending
from slo.errors import RegisterError

THERE = "/v1/models: HTTP 400: Model is already in the model list, uid: m"


class FakeApi:
    """One model. `later` changes the state of its replica at a time; what cannot be stopped now is `launching`."""

    def __init__(self, clock: ManualClock, state: str = "") -> None:
        self.clock = clock
        self.endpoint = "http://127.0.0.1:1"
        self.state = state
        self.listed = state == "READY"
        self.launching = False
        self.failed = False  # a launch, and what it left is being cleared away
        self.known = bool(state)  # to the supervisor, who refuses to launch it then
        self.orders: list[str] = []
        self.added = 0
        self.refuses_more = False
        self.bodies: list[dict[str, Any]] = []
        self.registered: dict[str, Any] | None = None
        self.engine_names: set[str] = set()
        self.reasons: dict[str, str] = {}
        self._later: list[tuple[float, Callable[[], None]]] = []

    def later(self, seconds: float, change: Callable[[], None]) -> None:
        """Have `change` happen after `seconds`."""
        self._later.append((self.clock.monotonic() + seconds, change))

    def ready(self) -> None:
        self.state, self.listed, self.launching, self.known = "READY", True, False, True

    def gone(self) -> None:
        self.state, self.listed, self.launching, self.known = "", False, False, False

    def _pass(self) -> None:
        due = [item for item in self._later if item[0] <= self.clock.monotonic()]
        self._later = [item for item in self._later if item not in due]
        for _, change in due:
            change()

    def replicas(self, uid: str) -> list[dict[str, Any]]:
        self._pass()
        return [{"status": self.state, "error_message": None}] * (1 + self.added) if self.state else []

    def add_replica(self, uid: str) -> int:
        self.orders.append("add replica")
        if self.refuses_more:
            raise RegisterError("no room")
        self.added += 1
        return self.added

    def clearing(self, uid: str) -> bool:
        self._pass()
        return self.failed

    def registration(self, name: str) -> dict[str, Any] | None:
        return self.registered

    def register(self, description: str) -> None:
        self.orders.append("register")
        self.registered = json.loads(description)

    def unregister(self, name: str) -> None:
        self.orders.append("unregister")
        self.registered = None

    def engines(self, name: str) -> set[str]:
        return self.engine_names

    def refusal(self, name: str, engine: str) -> str:
        return self.reasons.get(engine, "")

    def models(self) -> list[dict[str, Any]]:
        self._pass()
        return [{"id": "m"}] if self.listed else []

    def terminate(self, uid: str) -> Ending:
        self._pass()
        self.orders.append("terminate")
        if self.launching:
            return "launching"
        if not self.known:
            return "unknown"
        if self.state != "TERMINATING":
            self.state = "TERMINATING"
            self.later(2, self.gone)
        return "stopped"

    def cancel(self, uid: str) -> None:
        self.orders.append("cancel")
        self.gone()

    def launch(self, body: dict[str, Any], /) -> None:
        self._pass()
        self.orders.append("launch")
        if self.known:
            raise RegisterError(THERE)
        self.state, self.launching, self.known = "CREATING", True, True
        self.bodies.append(body)
        self.later(5, self.ready)
