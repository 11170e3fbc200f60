"""Faults of the server: its processes, its machine, its files."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import time

import psutil
import requests

from scripts.faults.rig import NotSo, Rig, until
from scripts.faults.scenario import Scenario
from slo.deploy.keeper_link import living_keeper
from slo.deploy.state import processes_of

IDLE = 2000
VICTIMS = ("main", "cluster", "model", "keeper")


def pid_of(rig: Rig, part: str) -> int:
    """The process that does this part."""
    return {"main": lambda: rig.state.pid, "cluster": rig.cluster, "model": rig.engine, "keeper": rig.keeper}[part]()


def struck(part: str, number: signal.Signals) -> Scenario:
    """A signal to one process."""

    def run(rig: Rig) -> str:
        before, pid, begun_s = rig.state.instance, pid_of(rig, part), time.monotonic()
        os.kill(pid, number)
        if part in ("main", "cluster"):
            rig.another(before)
            return f"started again as it was, served after {time.monotonic() - begun_s:.1f} s"
        until("another process", lambda: pid_of(rig, part) not in (0, pid))
        until("it serves", rig.served)
        if rig.state.instance != before:
            raise NotSo("the whole server was started again")
        if part == "keeper" and rig.users.failed(begun_s):
            raise NotSo("users noticed")
        return f"another {part} process after {time.monotonic() - begun_s:.1f} s, the server stayed"

    kills = number == signal.SIGKILL
    whole = part in ("main", "cluster")
    return Scenario(
        f"{'kill -9' if kills else 'SIGSTOP'} of {part}",
        "server and model are launched again" if whole else "that process is replaced; the server stays", run,
    )  # fmt: skip


def memory_limit(rig: Rig) -> str:
    """The model process can have no more memory than it has; what needs more fails, and nothing else."""
    pid, before = rig.engine(), rig.state.instance
    limit = psutil.Process(pid).memory_info().vms
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        time.sleep(0.5)
    until("it serves", rig.served)
    if rig.state.instance != before:
        raise NotSo("the whole server was started again")
    return "served on" if rig.engine() == pid else "the model process was replaced"


def descriptors(rig: Rig) -> str:
    """Thousands of connections that ask nothing."""
    begun_s = time.monotonic()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(IDLE)]
    time.sleep(5)
    failed = rig.users.failed(begun_s)
    for each in idle:
        each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if failed:
        raise NotSo(f"{failed} requests failed")
    return f"{IDLE} idle connections were held, no request failed"


def port_stolen(rig: Rig) -> str:
    """Another program takes the port while the server is down."""
    before = rig.state.instance
    os.kill(rig.state.pid, signal.SIGKILL)
    until("the port is free", lambda: not processes_of(before) or _free(rig.port), 60)
    with rig.free_port_taken():
        until("told", lambda: (k := living_keeper(rig.state_dir)) and k.failures > 1)
        why = k.why.splitlines()[0] if (k := living_keeper(rig.state_dir)) else ""
    rig.another(before)
    return f"told (“{why}”), tried again with growing pauses, back once the port was free"


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def log_moved(rig: Rig) -> str:
    """logrotate's habit, and somebody's rm."""
    rig.log.rename(rig.log.with_suffix(".moved"))
    until("written again after a move", rig.log.exists, 30)
    rig.log.unlink()
    until("written again after rm", rig.log.exists, 30)
    rig.log.with_suffix(".moved").unlink()
    return "reopened both times"


def files_spoilt(rig: Rig) -> str:
    """Every file of the state with garbage in it, one after another; then a restart with all of them so."""
    before, spoilt = rig.state.instance, []
    golden = _vector(rig)
    for file in sorted(path for path in rig.state_dir.rglob("*") if path.is_file()):
        if file.name.startswith("history.db") or file.name.startswith("outbox.db") or "/logs/" in str(file):
            continue  # the watch's: see there
        file.write_bytes(b"\x00garbage{" * 3)
        spoilt.append(str(file.relative_to(rig.state_dir)))
        if "models" not in file.parts and rig.command("--status").returncode not in (0, 1):
            raise NotSo(f"{file}: --status failed")
    until("the record is whole again", lambda: rig.state.instance == before, 60)
    os.kill(rig.state.pid, signal.SIGKILL)
    rig.another(before)
    if not _close(golden, _vector(rig)):
        raise NotSo("other vectors than before")
    return f"{len(spoilt)} files: records rewritten, graphs made anew, the same vectors"


def _vector(rig: Rig) -> list[float]:
    body = {"model": "gte-base-zh", "input": "同一个问题"}
    answer = requests.post(f"{rig.url}/v1/embeddings", json=body, timeout=30).json()
    vector: list[float] = answer["data"][0]["embedding"]
    return vector


def _close(one: list[float], other: list[float]) -> bool:
    return sum(a * b for a, b in zip(one, other, strict=True)) > 0.999


def attack(rig: Rig) -> str:
    """KILL of main, cluster, model and keeper in random order at random moments."""
    seed, minutes = random.randrange(10**6), float(os.environ["FAULTS_MINUTES"])
    chance, end_s, kills = random.Random(seed), time.monotonic() + 60 * minutes, dict.fromkeys(VICTIMS, 0)
    instances = {rig.state.instance}
    while time.monotonic() < end_s:
        time.sleep(chance.choice([0.1, 1.0, 5.0, 20.0]) * chance.random())
        part = chance.choice(VICTIMS)
        try:
            pid = pid_of(rig, part)
            instances.add(rig.state.instance)
            if pid:
                os.kill(pid, signal.SIGKILL)
                kills[part] += 1
        except (NotSo, OSError, StopIteration, ValueError, KeyError, psutil.Error):
            continue  # not there right now
    until("it serves", rig.served, 600)
    until("one keeper", rig.keeper)
    until("the start is over", lambda: (k := living_keeper(rig.state_dir)) and k.next_s is None, 600)
    left = [i for i in instances - {rig.state.instance} if processes_of(i)]
    if left:
        raise NotSo(f"processes of {len(left)} former servers are left")
    done = ", ".join(f"{part} {count}" for part, count in kills.items())
    return f"seed {seed}, {minutes:g} min, killed: {done}; back, nothing left"


def disk_full(rig: Rig) -> str:
    """No byte left under state and log, then main is killed."""
    before = rig.state.instance
    filler = rig.folder / "filler"
    if not os.path.ismount(rig.folder):
        return "not done: needs a folder on a disk of its own (run as root)"
    with filler.open("wb") as file:
        while True:
            try:
                file.write(b"\0" * (1 << 20))
                file.flush()
            except OSError:
                break
    try:
        rig.launch()  # changes nothing, so needs nothing
        os.kill(rig.state.pid, signal.SIGKILL)
        time.sleep(15)  # its keeper tries, and can tell nobody: neither log nor record has room
    finally:
        filler.unlink()
    rig.another(before)
    return "a launch of what is up succeeds; the killed server was back with room for its record, by itself"


SCENARIOS = [
    *(struck(part, signal.SIGKILL) for part in VICTIMS),
    *(struck(part, signal.SIGSTOP) for part in ("main", "model", "keeper")),
    Scenario("memory limit on the model process", "requests that need more fail; the server stays", memory_limit),
    Scenario("2000 idle connections", "no request fails", descriptors),
    Scenario("port stolen while it is down", "told; back when the port is free", port_stolen),
    Scenario("log moved, log removed", "written again at the same path", log_moved),
    Scenario("disk full under state and log", "serves on; comes back by itself once there is room", disk_full),
    Scenario("every file of the state spoilt", "each is detected, rewritten or made anew; same vectors", files_spoilt),
    Scenario("random kills", "always back, nothing left behind", attack),
]
