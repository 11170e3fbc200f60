"""
Which models run here, and which of them are ours.

Looked up once per model, then kept: requests go straight to the lane. Every `WATCH_S` the lists of replicas are read
anew, so that added, removed and relaunched replicas are noticed; at once when a call finds a replica gone. While nobody
answers for them, the replicas known before serve on: passes go to them without asking anybody.

That a model is absent or not ready is never repeated: a request is told so by a look-up that began after it came, since
the model may have become ready in between. A name that somebody is bringing up (`expect`) is a 503 meanwhile, not a
404: clients come back after the one and give up after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from slo.serve.door.admission import Policy
from slo.serve.door.cache import Cache
from slo.serve.door.lane import Lane, ServedReplica
from slo.serve.door.liveness import Liveness
from slo.serve.door.problem import Problem, Unanswered, not_ready
from slo.serve.telemetry.telemetry import Telemetry
from slo.settings_serve import ServeSection

WATCH_S = 2.0
PAUSE_S = 0.05  # between two look-ups of a name that is unknown or not ready, however many ask
DISCOVER_S = 0.5  # between two looks at the list of all models, however many ask
FOREIGN_S = 5.0  # after so long, look again whether a model has been relaunched on our engine
LOOKUP_S = 15.0
MAX_NAMES = 1000

logger = logging.getLogger("xinference.slo")


class Finder(Protocol):
    """Where replicas come from."""

    async def find(self, model: str) -> Sequence[ServedReplica]:
        """Ready replicas, empty for a model of another engine.

        Raises `Problem` 404 or 503, and `Unanswered` when it is not known whether there are any.
        """
        ...

    def states(self, model: str) -> Mapping[str, str]:
        """The host's word for each replica found last, ready or not, by uid."""
        ...

    def silent(self, model: str) -> Sequence[ServedReplica]:
        """Replicas found last that count as ready and did not tell their status."""
        ...

    async def models(self) -> Sequence[str]:
        """Names of all embedding models that run. Raises `Problem` 503."""
        ...


@dataclass(slots=True)
class Entry:
    """What is known about one name."""

    lane: Lane | None = None
    problem: Problem | None = None
    known: bool = False
    asked_s: float = -1e9
    begun_s: float = -1e9  # of the look-up that ended at `asked_s`
    asking: asyncio.Task[None] | None = field(default=None, repr=False)


class Directory:
    """All names that were asked for, at most `MAX_NAMES`."""

    def __init__(
        self, finder: Finder, settings: ServeSection, cache: Cache, telemetry: Telemetry, expected: Collection[str] = ()
    ) -> None:
        """`expected` are the names that this server is there to serve."""
        self._finder = finder
        self._settings = settings
        self._cache = cache
        self._telemetry = telemetry
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lanes: dict[str, Lane] = {}
        self._alive: dict[str, Liveness] = {}  # for each lane
        self._foreign: set[str] = set()  # names of models that run on another engine
        self._discovering: asyncio.Task[None] | None = None
        self._discovered_s = -1e9
        self._expected = set(expected)
        self._generations = itertools.count(1)
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self.policy: Policy = settings.admission.policy  # as it is now: it may be changed while we run

    @property
    def lanes(self) -> list[Lane]:
        """The models that we serve, ready or not."""
        return list(self._lanes.values())

    async def has_foreign(self) -> bool:
        """Does a model of another engine run here? Asks the host, since nobody may have asked for that model yet."""
        await self.discover()
        return bool(self._foreign)

    def ready(self, model: str) -> Lane | None:
        """The lane of a model that needs no look-up: the fast way."""
        entry = self._entries.get(model)
        return entry.lane if entry is not None and entry.problem is None else None

    def confirmed(self, model: str) -> bool:
        """Is there such a model, ready or coming, by the host's word? Never true of a name that only clients know."""
        entry = self._entries.get(model)
        return model in self._expected or (
            entry is not None and (entry.lane is not None or bool(self._finder.states(model)))
        )

    def expect(self, model: str, *, expected: bool) -> None:
        """Somebody is bringing `model` up, or has given it up."""
        (self._expected.add if expected else self._expected.discard)(model)

    async def lane(self, model: str) -> Lane | None:
        """The model's lane; None when another engine serves it. Raises `Problem` 404 or 503."""
        entry = self._entry(model)
        arrived_s = self._telemetry.now()
        while (not entry.known or entry.problem is not None) and entry.begun_s < arrived_s:
            now_s = self._telemetry.now()
            if now_s - arrived_s > LOOKUP_S:  # a supervisor that hangs: nothing better will come
                break
            pause_s = entry.begun_s + PAUSE_S - now_s
            if pause_s > 0 and (entry.asking is None or entry.asking.done()):
                await asyncio.sleep(pause_s)
            else:
                await asyncio.shield(self._ask(model, entry))
        if entry.problem is None and entry.lane is None and arrived_s - entry.asked_s > FOREIGN_S:
            self._ask(model, entry)
        if entry.problem is not None:
            raise entry.problem.again()
        return entry.lane

    def change_policy(self, policy: Policy) -> None:
        """Admission's policy for all models from now on, those not seen yet included."""
        self.policy = policy
        for lane in self.lanes:
            lane.change_policy(policy)

    async def discover(self) -> None:
        """Look at every embedding model that runs, also those that nobody has asked for yet; once for all who ask."""
        if self._discovering is None or self._discovering.done():
            if self._telemetry.now() - self._discovered_s < DISCOVER_S:
                return
            self._discovering = asyncio.get_running_loop().create_task(self._discover())
        await asyncio.shield(self._discovering)

    async def _discover(self) -> None:
        self._discovered_s = self._telemetry.now()
        try:
            names = await asyncio.wait_for(self._finder.models(), LOOKUP_S)
        except (Problem, asyncio.TimeoutError):
            return  # what is known already keeps being reported; a request will say what is wrong
        for name in {*names, *self._foreign}:
            with contextlib.suppress(Problem):
                await self.lane(name)

    def start(self) -> None:
        """Begin to watch; on the event loop."""
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        for liveness in self._alive.values():
            liveness.start()

    async def close(self) -> None:
        """Stop watching and end everything that waits."""
        self._closed = True
        tasks = [entry.asking for entry in self._entries.values() if entry.asking is not None]
        tasks += [task for task in (self._watching, self._discovering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for liveness in self._alive.values():
            await liveness.close()
        for lane in self.lanes:
            await lane.batcher.close()

    def _entry(self, model: str) -> Entry:
        entry = self._entries.get(model)
        if entry is None:
            entry = self._entries[model] = Entry()
            if len(self._entries) > MAX_NAMES:
                kept = self._lanes.keys() | self._foreign | {model}
                self._entries.pop(next((name for name in self._entries if name not in kept), ""), None)
        return entry

    def _ask(self, model: str, entry: Entry) -> asyncio.Task[None]:
        """One look-up at a time per name."""
        if entry.asking is None or entry.asking.done():
            entry.asking = asyncio.get_running_loop().create_task(self._look_up(model, entry))
        return entry.asking

    async def _look_up(self, model: str, entry: Entry) -> None:
        """Put into `entry` what the finder says. Never raises: neither the watch nor a queue may end with it."""
        begun_s = self._telemetry.now()
        try:
            problem = await self._find(model, entry)
        except Exception as error:
            logger.exception("xinference-slo: looking up %s failed", model)
            problem = self._carry_on(entry, Unanswered(f"looking the model up failed: {type(error).__name__}"))
        entry.problem, entry.known, entry.begun_s = problem, True, begun_s
        (self._foreign.add if problem is None and entry.lane is None else self._foreign.discard)(model)
        entry.asked_s = self._telemetry.now()

    async def _find(self, model: str, entry: Entry) -> Problem | None:
        """Ask, and serve from what is found; the problem with that."""
        replicas: Sequence[ServedReplica] = ()
        problem: Problem | None = None
        try:
            replicas = await asyncio.wait_for(self._finder.find(model), LOOKUP_S)
        except Unanswered as error:
            return self._carry_on(entry, error)
        except Problem as error:
            problem = error.again()
            if problem.status == 404 and model in self._expected:
                problem = not_ready(f"the model '{model}' is not up yet")
        except asyncio.TimeoutError:
            return self._carry_on(entry, Unanswered(f"the supervisor did not answer within {LOOKUP_S:g} s"))
        if replicas and entry.lane is None:
            entry.lane = self._lanes[model] = Lane(
                model, self._settings, self._cache, self._telemetry, lambda: next(self._generations),
                on_lost=lambda: self._replica_lost(model, entry),
            )  # fmt: skip
            entry.lane.change_policy(self.policy)
            self._alive[model] = Liveness(entry.lane, self._telemetry, patience_s=self._settings.patience)
            if self._watching is not None:
                self._alive[model].start()
        if entry.lane is not None:
            entry.lane.states = self._finder.states(model)
            if replicas or problem is not None:
                entry.lane.update(replicas, self._finder.silent(model))
            else:  # relaunched on another engine
                await self._retire(model, entry)
        return problem

    def _carry_on(self, entry: Entry, problem: Problem) -> Problem | None:
        """Nothing was learnt, so what was known holds. Without a replica to serve from, nobody is kept waiting."""
        if entry.lane is None:
            anothers = entry.known and entry.problem is None
            return None if anothers else problem.again()
        if entry.lane.batcher.replicas:
            return None
        entry.lane.update(())
        return problem.again()

    async def _retire(self, model: str, entry: Entry) -> None:
        lane, entry.lane = entry.lane, None
        self._lanes.pop(model, None)
        if (liveness := self._alive.pop(model, None)) is not None:
            await liveness.close()
        if lane is not None:
            self._cache.forget(lane.generation)
            await lane.batcher.close()

    def _replica_lost(self, model: str, entry: Entry) -> None:
        if not self._closed:
            self._ask(model, entry)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for model in list(self._lanes):
                await self._ask(model, self._entries[model])
