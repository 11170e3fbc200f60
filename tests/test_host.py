""" """

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slo.host import FIRST_TO_GO, Limits, cpu_name, give_back, host_facts, limits, offer_to_oom_killer, usable_cores

NONE = "9223372036854771712"
GIB = 2**30
V1 = Path("/sys/fs/cgroup/cpu")


def test_the_machine_is_described_by_what_explains_a_latency() -> None:
    facts = host_facts()
    assert set(facts) == {
        "cpu", "cores", "kernel", "python", "load_1m", "cpu_flags", "quota_cores", "governor", "versions",
    }  # fmt: skip
    assert facts["cores"] >= 1


def test_a_system_without_cpuinfo_has_a_processor_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_path: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    assert cpu_name()


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


def test_a_process_offers_another_or_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        offer_to_oom_killer(child.pid)
        assert score(child.pid) == FIRST_TO_GO > 0
    code = "from slo.host import *; offer_to_oom_killer(); print(open('/proc/self/oom_score_adj').read())"
    assert int(subprocess.check_output([sys.executable, "-c", code])) == FIRST_TO_GO


def test_a_process_that_is_gone_is_no_error() -> None:
    offer_to_oom_killer(2**22 - 1)


def tree(folder: Path, cgroup: str, mounts: list[tuple[str, str, str]], files: dict[str, str]) -> Path:
    """A `/proc/self` and the hierarchies that it tells of: mounts are (root of the mount, place, rest of the line)."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup, encoding="utf-8")
    lines = [f"31 23 0:28 {root} {folder / place} rw,relatime - {rest}\n" for root, place, rest in mounts]
    (proc / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "".join(lines), encoding="utf-8")
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return proc


V2 = ("/", "v2", "cgroup2 cgroup2 rw")
CPU = ("/", "cpu", "cgroup cgroup rw,cpu,cpuacct")
MEMORY = ("/", "memory", "cgroup cgroup rw,memory")


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "expected"),
    [
        pytest.param("0::/\n", [V2], {"v2/cpu.max": "400000 100000\n"}, Limits(cores=4.0), id="v2"),
        pytest.param("0::/\n", [V2], {"v2/cpu.max": "max 100000\n"}, Limits(), id="v2, no quota"),
        pytest.param(
            "0::/a.slice/b.service\n", [V2],
            {"v2/a.slice/cpu.max": "150000 100000\n", "v2/a.slice/b.service/cpu.max": "max 100000\n"},
            Limits(cores=1.5), id="v2, limited further up",
        ),
        pytest.param(
            "0::/pod/x\n", [("/pod/x", "v2", "cgroup2 cgroup2 rw")], {"v2/cpu.max": "200000 100000"},
            Limits(cores=2.0), id="v2, the mount shows our group as its root",
        ),
        pytest.param(
            "0::/../../outside\n", [V2], {"v2/cpu.max": "200000 100000"}, Limits(cores=2.0), id="v2, a namespace",
        ),
        pytest.param(
            "3:cpu,cpuacct:/docker/1\n", [CPU],
            {"cpu/docker/1/cpu.cfs_quota_us": "250000\n", "cpu/docker/1/cpu.cfs_period_us": "100000\n"},
            Limits(cores=2.5), id="v1",
        ),
        pytest.param(
            "3:cpu,cpuacct:/docker/1\n", [CPU], {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
            Limits(cores=0.5), id="v1, seen as the root",
        ),
        pytest.param(
            "3:cpu,cpuacct:/\n", [CPU], {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, Limits(),
            id="v1, no quota",
        ),
        pytest.param(
            "0::/a\n", [V2],
            {
                "v2/memory.max": "max", "v2/a/memory.max": str(2 * GIB), "v2/a/memory.current": str(GIB),
                "v2/a/memory.stat": f"file 5\ninactive_file {GIB // 4}\n",
            },
            Limits(memory_bytes=2 * GIB, memory_left_bytes=GIB + GIB // 4), id="v2, memory",
        ),
        pytest.param(
            "4:memory:/m\n0::/\n", [MEMORY, V2],
            {
                "memory/memory.limit_in_bytes": NONE, "memory/memory.usage_in_bytes": "5",
                "memory/m/memory.limit_in_bytes": str(GIB), "memory/m/memory.usage_in_bytes": str(2 * GIB),
            },
            Limits(memory_bytes=GIB, memory_left_bytes=0), id="v1, memory, used up",
        ),
        pytest.param("", [], {}, Limits(), id="no cgroups"),
    ],
)  # fmt: skip
def test_the_tightest_limit_counts(
    tmp_path: Path, cgroup: str, mounts: list[tuple[str, str, str]], files: dict[str, str], expected: Limits
) -> None:
    assert limits(tree(tmp_path, cgroup, mounts, files)) == expected


def test_cores_are_those_of_affinity_and_quota_and_never_none() -> None:
    visible = len(os.sched_getaffinity(0))
    assert usable_cores(Limits()) == visible
    assert usable_cores(Limits(cores=visible + 3.0)) == visible
    assert usable_cores(Limits(cores=1.9)) == 1
    assert usable_cores(Limits(cores=0.2)) == 1


@pytest.fixture
def real_group() -> Iterator[Path]:
    group = V1 / f"slo-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no cgroup of version 1 can be made here")
    yield group
    group.rmdir()


def test_a_real_quota_is_seen_from_inside(real_group: Path) -> None:
    (real_group / "cpu.cfs_quota_us").write_text("130000")
    code = f"""
import os
open({str(real_group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
from slo.host import limits, usable_cores
print(limits().cores, usable_cores())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["1.3", "1"]


def resident_kib(path: Path) -> int:
    """Of this process's mapping of `path`."""
    _, _, rest = Path("/proc/self/smaps").read_text(encoding="utf-8").partition(f"{path}\n")
    return next(int(line.split()[1]) for line in rest.splitlines() if line.startswith("Rss:"))


def test_pages_of_a_file_that_is_only_read_are_given_back_and_read_again(tmp_path: Path) -> None:
    read_once, kept = tmp_path / "weights.blob", tmp_path / "other.bin"
    content = os.urandom(2**20)
    with ExitStack() as stack:
        mapped = {}
        for path in (read_once, kept):
            path.write_bytes(content)
            file = stack.enter_context(path.open("rb"))
            mapped[path] = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            assert mapped[path][:] == content
        give_back(".blob")
        assert resident_kib(read_once) == 0
        assert resident_kib(kept) == 1024
        assert mapped[read_once][:] == content


def test_what_may_be_written_is_never_given_back(tmp_path: Path) -> None:
    """The page that was written would be lost."""
    path = tmp_path / "weights.blob"
    path.write_bytes(b"old" * 10_000)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:3] = b"new"
        give_back(".blob")
        assert mapped[:6] == b"newold"
