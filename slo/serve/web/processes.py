"""
Processor time and memory of every process of the server on this machine: API, supervisor, workers, models, helpers.

They are the API process's family, named by what they do, and looked for anew every `TREE_S`, in a thread. Memory comes
in two counts. *Resident* is all that a process has in memory. *Proportional* (the kernel's PSS) gives it only its share
of the pages that several processes have in common, so that the sum is what the server really takes: with the fork
server most pages are shared, and resident sizes add up to several times the truth. The kernel walks all pages for it
(20 ms a process), so it is read every `MEMORY_S`, and not at all while nobody asks.

A model on another machine is known by its engine's own figures; other processes there are not seen.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import psutil

from slo.addresses import is_loopback
from slo.host import proportional_bytes
from slo.serve.door.lane import Lane, ServedReplica

TREE_S = 10.0
MEMORY_S = 60.0
ORDER = ("api", "main", "supervisor", "supervisor + worker", "worker", "fork server")  # then models, then the rest
HELPERS = "helpers"  # what lives shortly or does little: resource trackers, conversion, a model not yet named
_TITLE = "Model: "  # Xinference names its model processes so
_SCRIPTS = {
    "start_local.py": "supervisor + worker", "start_supervisor.py": "supervisor", "start_api.py": "api",
    "xinference-worker": "worker", "xinference.deploy.worker_relaunch": "worker",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """One process, or all of one name: seconds of processor time since the start, and bytes."""

    name: str
    cpu_s: float
    resident_bytes: int
    proportional_bytes: int | None = None  # None where the kernel does not say, or was not asked yet

    @property
    def memory_bytes(self) -> int:
        """The truest figure there is."""
        return self.resident_bytes if self.proportional_bytes is None else self.proportional_bytes

    def __add__(self, other: ProcessUse) -> ProcessUse:
        known = self.proportional_bytes is not None and other.proportional_bytes is not None
        return ProcessUse(
            self.name,
            self.cpu_s + other.cpu_s,
            self.resident_bytes + other.resident_bytes,
            self.memory_bytes + other.memory_bytes if known else None,
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A process of the family; `proportional_bytes` is as old as the last weighing."""

    process: psutil.Process
    name: str
    proportional_bytes: int | None = None

    def use(self, name: str) -> ProcessUse:
        """What it uses now, called `name`. Raises psutil.Error when it has ended."""
        with self.process.oneshot():
            if self.process.status() == psutil.STATUS_ZOMBIE:  # ended, and nobody has taken notice yet
                raise psutil.ZombieProcess(self.process.pid)
            times = self.process.cpu_times()
            resident = self.process.memory_info().rss
        return ProcessUse(name, times.user + times.system, resident, self.proportional_bytes)


class Processes:
    """The family of the API process, `pid`, and the models on other machines. `lanes` gives what is served."""

    def __init__(
        self, lanes: Callable[[], Sequence[Lane]], now: Callable[[], float] = time.monotonic, pid: int | None = None
    ) -> None:
        self._lanes, self._now = lanes, now
        self._own = psutil.Process(pid or os.getpid())
        self._members = {self._own.pid: Member(self._own, "api")}
        self._looked_s = self._weighed_s = float("-inf")
        self._looking = asyncio.Lock()

    async def look(self) -> None:
        """Let `uses` speak of the processes that there are now; costs something every `TREE_S` only."""
        async with self._looking:
            if self._now() - self._looked_s >= TREE_S:
                self._looked_s = self._now()
                await asyncio.to_thread(self.survey, list(self._replicas()[0]))

    def survey(self, models: Sequence[int] = ()) -> None:
        """Find the family, and weigh those that are new, or all when their weights are old.

        `models` are the numbers of model processes here that may belong to a worker started beside the family.
        """
        weigh_all = self._now() - self._weighed_s >= MEMORY_S
        if weigh_all:
            self._weighed_s = self._now()
        members: dict[int, Member] = {}
        for process in self._family(models):
            known = self._members.get(process.pid)
            try:
                same = known is not None and known.process == process and known.proportional_bytes is not None
                weight = known.proportional_bytes if known and same and not weigh_all else proportional_bytes(process)
                members[process.pid] = Member(process, self._role(process), weight)
            except psutil.Error:
                continue  # it has ended meanwhile
        self._members = members

    def uses(self) -> list[ProcessUse]:
        """What each uses at this moment, the API process first; those of one name as one."""
        here, elsewhere = self._replicas()
        members = self._members
        uses: dict[str, ProcessUse] = {}
        for pid in members.keys() | here.keys():
            try:
                member = members.get(pid) or Member(psutil.Process(pid), HELPERS)
                use = member.use(here.get(pid, member.name))
            except psutil.Error:
                continue  # it has ended
            uses[use.name] = uses[use.name] + use if use.name in uses else use
        return sorted([*uses.values(), *elsewhere], key=_place)

    def _family(self, models: Sequence[int]) -> list[psutil.Process]:
        """The API process, its descendants, and the models with their workers that were started beside it."""
        root = self._root()
        family = {process.pid: process for process in (root, *root.children(recursive=True))}
        for pid in set(models) - family.keys():
            try:
                model = psutil.Process(pid)
                family |= {process.pid: process for process in (model, *model.parents()[:1])}
            except psutil.Error:
                continue
        return list(family.values())

    def _root(self) -> psutil.Process:
        """The API process, or the process that has started it where Xinference renews it while it runs."""
        try:
            parent = self._own.parent()
            return parent if parent and _script(self._own) == "api" else self._own
        except psutil.Error:
            return self._own

    def _role(self, process: psutil.Process) -> str:
        if process.pid == self._own.pid:
            return "api"
        root = self._root()
        if process.pid == root.pid:
            return "main"
        if process.name().startswith("slo-forkserver"):
            return "fork server"
        title = " ".join(process.cmdline())
        if title.startswith(_TITLE):
            return title.removeprefix(_TITLE).strip()
        if process.ppid() == root.pid and process.cmdline() == root.cmdline():
            return "supervisor + worker"  # a fork keeps the command line of the process that it was forked from
        return _script(process) or HELPERS

    def _replicas(self) -> tuple[dict[int, str], list[ProcessUse]]:
        """Names of the model processes on this machine by their number; and what those elsewhere say of themselves."""
        here: dict[int, str] = {}
        elsewhere: list[ProcessUse] = []
        for replica in (replica for lane in self._lanes() for replica in lane.replicas):
            name, status = replica.identity[0], replica.status
            pid = status.get("pid")
            relative = self._members.get(pid) if isinstance(pid, int) else None
            if isinstance(pid, int) and (_is_here(replica) or (relative and relative.name == name)):
                here[pid] = name
            elif "rss_bytes" in status:
                elsewhere.append(ProcessUse(name, float(status.get("cpu_s", 0.0)), int(status["rss_bytes"])))
        return here, elsewhere


def _is_here(replica: ServedReplica) -> bool:
    return is_loopback(replica.identity[1].rpartition(":")[0])


def _script(process: psutil.Process) -> str:
    """What the name of the started program says; empty for one that says nothing."""
    names = (_SCRIPTS.get(PurePath(word).name) for word in process.cmdline()[:4])
    return next((name for name in names if name), "")


def _place(use: ProcessUse) -> tuple[int, str]:
    if use.name in ORDER:
        return ORDER.index(use.name), ""
    return len(ORDER) + (use.name == HELPERS), use.name
