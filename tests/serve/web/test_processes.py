"""Every process of the server by name, with memory that adds up: on real processes, forked and started."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from slo.clock import ManualClock
from slo.serve.web.processes import HELPERS, MEMORY_S, TREE_S, Processes, ProcessUse

HEAP = 64 << 20

# A server in small: it shares a heap with a fork server and with what is forked as its cluster, which has a model.
FAMILY = """
import ctypes, os, signal, subprocess, sys, time
import setproctitle
heap = bytearray(os.urandom(HEAP))
def rest():
    time.sleep(120)
    os._exit(0)
if os.fork() == 0:
    ctypes.CDLL(None).prctl(15, b"slo-forkserver", 0, 0, 0)
    rest()
if os.fork() == 0:
    if os.fork() == 0:
        setproctitle.setproctitle("Model: bge-rep0")
        rest()
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    rest()
print("up", flush=True)
rest()
"""


def started(script: Path, text: str) -> subprocess.Popen[str]:
    """A program in a session of its own, once it says that it is up."""
    script.write_text(textwrap.dedent(text.replace("HEAP", str(HEAP))), encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    """With all its descendants."""
    root = psutil.Process(process.pid)
    for member in [*root.children(recursive=True), root]:
        member.kill()
    process.communicate(timeout=10)


@pytest.fixture
def family(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = started(tmp_path / "server.py", FAMILY)
    wait_for_names(process)
    yield process
    end(process)


def wait_for_names(process: subprocess.Popen[str]) -> None:
    """Until the forked processes have got their titles."""
    root = psutil.Process(process.pid)
    for _ in range(200):
        children = root.children(recursive=True)
        titles = " ".join([child.name() + " ".join(child.cmdline()) for child in children])
        if len(children) == 4 and "slo-forkserver" in titles and "Model: bge-rep0" in titles:
            return
        psutil.wait_procs(children, timeout=0.05)
    pytest.fail("the family is not complete")


def looking_at(process: subprocess.Popen[str], lanes: Any = (), clock: ManualClock | None = None) -> Processes:
    return Processes(lambda: lanes, (clock or ManualClock()).monotonic, process.pid)


def lane(*replicas: tuple[str, str, dict[str, object]]) -> Any:
    """What is known of some replicas: uid, address, the engine's own account."""
    return SimpleNamespace(
        replicas=[SimpleNamespace(identity=(uid, address), status=status) for uid, address, status in replicas]
    )


async def test_every_process_is_listed_by_what_it_does(family: subprocess.Popen[str]) -> None:
    processes = looking_at(family)
    await processes.look()
    names = [use.name for use in processes.uses()]
    assert names == ["api", "supervisor + worker", "fork server", "bge-rep0", HELPERS]


async def test_proportional_memory_adds_up_where_resident_counts_shared_pages_again_and_again(
    family: subprocess.Popen[str],
) -> None:
    processes = looking_at(family)
    await processes.look()
    sharing = [use for use in processes.uses() if use.name != HELPERS]
    resident = sum(use.resident_bytes for use in sharing)
    true = sum(use.memory_bytes for use in sharing)
    assert resident > 4 * HEAP
    assert HEAP < true < 2 * HEAP


def test_before_the_first_look_the_api_process_is_known_and_its_memory_is_resident(
    family: subprocess.Popen[str],
) -> None:
    uses = looking_at(family).uses()
    assert [use.name for use in uses] == ["api"]
    assert uses[0].memory_bytes == uses[0].resident_bytes > HEAP


async def test_a_process_that_ends_is_gone_at_once_and_a_new_one_is_found_at_the_next_look(
    family: subprocess.Popen[str], tmp_path: Path
) -> None:
    clock = ManualClock()
    processes = looking_at(family, clock=clock)
    await processes.look()
    model = next(p for p in psutil.Process(family.pid).children(recursive=True) if "Model" in " ".join(p.cmdline()))
    model.kill()
    psutil.wait_procs([model], timeout=1)  # its parent takes no notice: it stays as a zombie
    assert "bge-rep0" not in {use.name for use in processes.uses()}
    clock.advance(TREE_S)
    await processes.look()
    assert "bge-rep0" not in {use.name for use in processes.uses()}
    other = started(tmp_path / "xinference-worker", 'print("up", flush=True)\nimport time\ntime.sleep(120)')
    try:
        beside = looking_at(family, [lane(("e5-rep0", "127.0.0.1:1", {"pid": other.pid}))], clock)
        assert "e5-rep0" in {use.name for use in beside.uses()}  # before any look
    finally:
        end(other)


async def test_it_looks_no_more_often_than_it_pays(
    family: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    looked: list[float] = []
    weighed: list[int] = []
    processes = looking_at(family, clock=clock)
    survey = processes.survey

    def watched_survey(models: list[int]) -> None:
        looked.append(clock.monotonic())
        survey(models)

    def weigh(process: psutil.Process) -> int:
        weighed.append(process.pid)
        return 1

    monkeypatch.setattr(processes, "survey", watched_survey)
    monkeypatch.setattr("slo.serve.web.processes.proportional_bytes", weigh)
    for _ in range(int(MEMORY_S)):
        await processes.look()
        clock.advance(1.0)
    assert len(looked) == MEMORY_S / TREE_S
    assert len(weighed) == len(set(weighed)) == 5
    await processes.look()
    assert len(weighed) == 10


async def test_a_model_on_another_machine_is_known_by_its_engines_own_account(family: subprocess.Popen[str]) -> None:
    far = lane(("far-rep0", "10.0.0.9:4000", {"pid": 1, "cpu_s": 3.5, "rss_bytes": 77}))
    processes = looking_at(family, [far])
    await processes.look()
    assert ProcessUse("far-rep0", 3.5, 77) in processes.uses()
    assert sum(use.name == "far-rep0" for use in processes.uses()) == 1


async def test_a_model_of_this_machine_is_one_row_whatever_address_it_goes_by(family: subprocess.Popen[str]) -> None:
    model = next(p for p in psutil.Process(family.pid).children(recursive=True) if "Model" in " ".join(p.cmdline()))
    near = lane(("bge-rep0", "192.168.1.5:4000", {"pid": model.pid, "cpu_s": 1.0, "rss_bytes": 77}))
    processes = looking_at(family, [near])
    await processes.look()
    rows = [use for use in processes.uses() if use.name == "bge-rep0"]
    assert len(rows) == 1
    assert rows[0].resident_bytes > HEAP


async def test_an_api_process_that_was_renewed_belongs_to_the_process_that_started_it(tmp_path: Path) -> None:
    child = tmp_path / "start_api.py"
    child.write_text("import time\nprint('up', flush=True)\ntime.sleep(120)", encoding="utf-8")
    supervisor = tmp_path / "start_supervisor.py"
    supervisor.write_text("import time\ntime.sleep(120)", encoding="utf-8")
    host = started(
        tmp_path / "host.py",
        f"""
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-u", {str(supervisor)!r}])
        subprocess.Popen([sys.executable, "-u", {str(child)!r}])
        time.sleep(120)
        """,
    )
    try:
        api = next(p for p in psutil.Process(host.pid).children() if str(child) in p.cmdline())
        processes = Processes(lambda: [], ManualClock().monotonic, api.pid)
        await processes.look()
        assert [use.name for use in processes.uses()] == ["api", "main", "supervisor"]
    finally:
        end(host)


def test_uses_of_one_name_are_added_and_a_sum_with_a_guess_is_a_guess() -> None:
    known, guessed = ProcessUse("x", 1.0, 100, 60), ProcessUse("x", 2.0, 50)
    assert (known + known).memory_bytes == 120
    assert (known + guessed) == ProcessUse("x", 3.0, 150)
