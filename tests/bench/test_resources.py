"""The figures are those of the processes meant."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from slo.bench import resources
from slo.bench.resources import Monitor, family, process_state, resource_summary, server_root


def test_memory_is_what_psutil_says() -> None:
    state = process_state(os.getpid())
    assert state is not None
    assert state[1] == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)


def test_a_process_that_has_gone_has_no_state() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert process_state(process.pid) is None
    assert family(process.pid) == []


def test_children_are_counted_and_their_cpu_is_seen() -> None:
    busy = "import time\nuntil = time.time() + 5\nwhile time.time() < until: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as child:
        try:
            started = time.perf_counter()
            monitor = Monitor(os.getpid(), started)
            monitor.read(time.perf_counter())
            assert child.pid in family(os.getpid())
            time.sleep(1.0)
            reading = monitor.read(time.perf_counter())
        finally:
            child.kill()
    assert reading.server_cpu is not None
    assert reading.server_cpu > 0.2
    assert reading.rss is not None
    assert reading.steal is not None
    assert 0 <= reading.steal <= 1
    summary = resource_summary([reading])
    assert summary["rss_max"] == reading.rss


def test_the_first_reading_counts_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was 0, whatever the server did; so was that of a process found by a later search."""
    ticks = {7: 1000, 8: 0}
    monkeypatch.setattr(resources, "family", lambda _pid: [pid for pid in ticks if pid != 8 or ticks[8]])
    monkeypatch.setattr(resources, "process_state", lambda pid: (ticks[pid], 1 << 20, 10.0))
    monkeypatch.setattr(Monitor, "measure_memory", lambda _self: None)
    monitor, second = Monitor(7, 0.0), os.sysconf("SC_CLK_TCK")
    ticks[7] += second
    assert monitor.read(1.0).server_cpu == pytest.approx(1.0)
    ticks[8] = 5 * second  # in ten seconds
    ticks[7] += 20 * second
    assert monitor.read(41.0).server_cpu == pytest.approx((20 + 5) / 40)


def test_memory_that_processes_share_is_weighed_once() -> None:
    """A hundred megabytes that a forked child has in common with its parent: twice in RSS, once in PSS."""
    code = (
        "import os, sys\nshared = os.urandom(1) * (100 << 20)\n"
        "if (child := os.fork()) == 0:\n    sys.stdin.read()\n    os._exit(0)\n"
        "print('ready', flush=True)\nsys.stdin.read()\nos.waitpid(child, 0)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdin is not None
        assert parent.stdout.readline() == b"ready\n"
        monitor = Monitor(parent.pid, time.perf_counter())
        rss = monitor.read(time.perf_counter()).rss
        for thread in [thread for thread in threading.enumerate() if thread.name == "measure_memory"]:
            thread.join()  # the weighing that `read` began; it must not end after the processes have
        weight = monitor.measure_memory()
        parent.stdin.close()
    assert rss is not None and weight is not None
    assert rss > 200 << 20 > 150 << 20 > weight > 100 << 20
    assert monitor.weight == weight


def test_without_a_server_here_its_figures_are_absent() -> None:
    reading = Monitor(None, time.perf_counter()).read(time.perf_counter())
    assert (reading.rss, reading.server_cpu) == (None, None)
    assert resource_summary([])["rss_max"] is None


def test_the_server_is_found_by_its_port_and_by_our_record(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert server_root(tmp_path, endpoint) == os.getpid()
        (tmp_path / "server.json").write_text(json.dumps({"pid": os.getppid()}))
        assert server_root(tmp_path, endpoint) in (os.getpid(), os.getppid())
        (tmp_path / "server.json").write_text("{}")
        assert server_root(tmp_path, endpoint) == os.getpid()


def test_a_record_of_another_server_is_not_believed(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other,
    ):
        (tmp_path / "server.json").write_text(json.dumps({"pid": other.pid}))
        assert server_root(tmp_path, f"http://127.0.0.1:{listening.getsockname()[1]}") == os.getpid()
        other.kill()


def test_a_server_elsewhere_has_no_process_here(tmp_path: Path) -> None:
    assert server_root(tmp_path, "http://10.255.255.1:9997") is None
