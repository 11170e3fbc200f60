"""From the server's own counters to the cause in the message: every suspect that the figures can name is named."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from slo.clock import ManualClock
from slo.objective import Objective
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.settings_serve import ServeSection
from slo.watch.history.store import Store
from slo.watch.model.notification import Notification
from slo.watch.server_health import CpuTime, ServerHealth
from slo.watch.sli.probe import ProbeTally
from slo.watch.sli.sources import PassiveSource
from slo.watch.watcher import Outside, Watcher
from tests.serve.fakes import FakeFinder, FakeReplica
from tests.serve.http_door import opened
from tests.watch.simulated import Simulation

Spoil = Callable[["Service", dict[str, Any]], None]


class Service:
    """A server's metrics page with two replicas behind it, the watch of it, and what people were sent."""

    def __init__(self, store: Store) -> None:
        self.clock = ManualClock(wall_s=1_700_000_040.0)
        self.telemetry = Telemetry(self.clock.monotonic)
        directory = cast("Directory", SimpleNamespace(lanes=[]))
        page = Exposition(directory, Cache(1000), self.telemetry, Processes(lambda: []))
        self.sent: list[Notification] = []
        self.uptime_s = 1e6
        self.stolen = self.ticks = 0
        self.watcher = Watcher(
            store,
            Simulation(store).settings,
            Outside(
                source=PassiveSource(lambda _: page.text(), "http://h", model="m", clock=self.clock, interval_s=60,
                                     thresholds_ms=[150]),
                probe=self.probe,
                health=lambda: ServerHealth(server_up=True, model_up=True, uptime_s=self.uptime_s),
                hand_over=self.sent.append, deliver=lambda: None, complain=lambda _: None,
                cpu=lambda: CpuTime(total=self.ticks, idle=0, steal=self.stolen),
            ),
            clock=self.clock, thin=60, runbook="docs/runbook.md",
        )  # fmt: skip

    def probe(self) -> ProbeTally:
        """Of the first round, which has no reading to compare with: nothing."""
        return ProbeTally(Objective())

    def minute(self, spoil: Spoil = lambda *_: None) -> None:
        """Sixty requests, of which `spoil` makes what it likes; then a round of the watch."""
        self.ticks += 6000
        for index in range(60):
            request: dict[str, Any] = {"seconds": 0.02, "queue": 0.002, "cached": index % 5 < 2, "lookup": True,
                       "length": ("short", "long")[index % 2], "replica": f"m-{index // 2 % 2}"}  # fmt: skip
            spoil(self, request)
            self.telemetry.request("m", request["length"], "2xx", cached=request["cached"], seconds=request["seconds"])
            self.telemetry.stage("queue", request["queue"])
            if request["lookup"]:
                self.telemetry.count("cache", "hit" if request["cached"] else "miss")
            if not request["cached"]:
                self.telemetry.computed("m", request["replica"], "2xx", request["seconds"])
        self.clock.advance(60)
        self.watcher.round()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Store(tmp_path / "history.db") as store:
        yield Service(store)


def everything(_: Service, request: dict[str, Any]) -> None:
    request |= {"seconds": 0.4, "cached": False}


def queued(service: Service, request: dict[str, Any]) -> None:
    everything(service, request)
    request["queue"] = 0.35


def long_texts(_: Service, request: dict[str, Any]) -> None:
    request |= {"seconds": 0.4 if request["length"] == "long" else 0.02, "cached": False}


def one_replica(_: Service, request: dict[str, Any]) -> None:
    request |= {"seconds": 0.4 if request["replica"] == "m-1" else 0.02, "cached": False}


def stolen(service: Service, request: dict[str, Any]) -> None:
    everything(service, request)
    service.stolen += 30  # of 100 ticks per request


def cold(service: Service, request: dict[str, Any]) -> None:
    everything(service, request)
    service.uptime_s = 20.0


def cache_off(service: Service, request: dict[str, Any]) -> None:
    everything(service, request)
    request["lookup"] = False


@pytest.mark.parametrize(
    ("spoil", "words", "words_zh"),
    [
        (queued, "stage queue: +348 ms per request", "排队阶段"),
        (long_texts, "texts of class long: 100% of the bad requests, 50% of the traffic", "长度类别「长」"),
        (one_replica, "replica m-1: 100% of the bad requests, 50% of the traffic", "副本「m-1」"),
        (stolen, "take 30% of the CPU time (steal)", "占用 30% 的处理器时间"),
        (cold, "the model is cold: started 20 s ago", "模型刚启动：20 秒前"),
        (cache_off, "the cache answers 0% of requests instead of 40%", "缓存命中率由 40% 降至 0%"),
    ],
)
def test_the_cause_in_the_message_comes_from_the_servers_counters(
    service: Service, spoil: Spoil, words: str, words_zh: str
) -> None:
    for _ in range(80):
        service.minute()
    assert service.sent == []
    for _ in range(12):
        service.minute(spoil)
    pages = [message for message in service.sent if message.severity in ("critical", "page")]
    # Half of all slow: the page that tells of it looks at half an hour, so the ticket may come first.
    message = (pages or service.sent)[-1]
    assert f"**Likely cause** {words}" in message.text_en or words in message.text_en
    assert words_zh in message.text_zh


async def evidence_of_use(
    found: list[FakeReplica], settings: ServeSection, **headers: str
) -> tuple[Counter[int], dict[str, list[int]]]:
    """Forty requests, two at a time, through the real front door: statuses, and good and total by replica."""
    statuses = Counter[int]()
    async with opened(FakeFinder(m=found), settings) as door:
        source = PassiveSource(
            lambda _: page, door.url, model="m", clock=ManualClock(), interval_s=60, thresholds_ms=[150]
        )
        for round_ in range(2):
            statuses.clear()
            for index in range(20):
                bodies = [{"model": "m", "input": f"{round_} {index} {name}"} for name in "ab"]
                answers = await asyncio.gather(*(door.embed(body, **headers) for body in bodies))
                statuses.update(status for status, _, _ in answers)
            async with door.http.get(f"{door.url}/slo/metrics") as response:
                page = await response.read()
            evidence = source.collect(0).evidence
    return statuses, evidence["replicas"]


async def test_a_slow_replica_is_found_by_the_front_doors_own_counters() -> None:
    slow = FakeReplica("m-1", 2, behave=lambda *_: 0.2)
    statuses, replicas = await evidence_of_use([FakeReplica("m-0"), slow], ServeSection(), x_slo_deadline_ms="5000")
    assert statuses == {200: 40}
    assert sum(total for _, total in replicas.values()) == 40
    assert replicas["m-0"][0] == replicas["m-0"][1] > 0
    assert replicas["m-1"][0] == 0 < replicas["m-1"][1]


async def test_a_replica_that_hangs_is_to_blame_for_what_it_owes() -> None:
    # From the second round on: the readings of the first are not counted.
    hung = FakeReplica("m-1", 2, behave=lambda _, texts: 60.0 if texts[0].startswith("1 ") else 0.0)
    patient = ServeSection.model_validate({"admission": {"policy": "queue", "request_timeout": 0.3}})
    statuses, replicas = await evidence_of_use([hung, FakeReplica("m-0")], patient)
    assert set(statuses) <= {200, 503}
    good, total = replicas.get("m-1", [0, 0])
    assert total - good == statuses[503] > 0
    assert replicas["m-0"][0] == replicas["m-0"][1] == statuses[200] - good
