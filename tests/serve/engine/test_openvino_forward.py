"""What one process may do with the engine's graphs, seen from outside: a fault here is the death of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from slo.serve.engine.loading import Workshop
from slo.serve.engine.openvino_forward import core, in_one_row
from slo.serve.engine.packing import INPUTS

# The graph goes on another thread, as it does when a model is closed; then the main thread has a signal to handle.
LIFE = """
import signal, sys, threading
from pathlib import Path
from slo.serve.engine.openvino_forward import OpenVinoForward

held = [OpenVinoForward(Path(sys.argv[1]), hint="f32", threads=1, compiled=None)]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append("alarm"))
signal.raise_signal(signal.SIGALRM)
print(*heard)
"""


def test_a_graph_that_goes_on_another_thread_leaves_the_main_thread_able_to_take_signals(
    tiny: Path, cache: Path
) -> None:
    graph = Workshop(tiny, cache, may_make=False).graph("fp32")
    done = subprocess.run([sys.executable, "-c", LIFE, str(graph)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "alarm\n"), done.stderr


def test_a_graph_for_passes_in_one_row_moves_nothing_about(tiny: Path, cache: Path) -> None:
    graph = Workshop(tiny, cache, may_make=False).graph("fp32")
    whole, plain = core().read_model(str(graph)), in_one_row(graph)
    gathers = [sum(node.get_type_name() == "Gather" for node in model.get_ops()) for model in (whole, plain)]
    layers = 2  # of the tiny stand-in; the last one works on the CLS rows only, and lays nothing out
    assert gathers[0] - gathers[1] == 4 * (layers - 1)
    assert [port.get_any_name() for port in plain.inputs] == list(INPUTS)


HELD = """
import sys
from pathlib import Path
from slo.serve.engine.loading import load

loaded = load(Path(sys.argv[1]), Path(sys.argv[2]), precision="fp32", threads=2, streams=int(sys.argv[3]))
mapped, resident, name = set(), {}, ""
for line in open("/proc/self/smaps"):
    if not line.split()[0].endswith(":"):
        name = line.split()[-1].rpartition("/")[2]
    elif line.startswith("Rss:") and name.endswith((".blob", ".bin")):
        resident[name] = resident.get(name, 0) + int(line.split()[1])
print(len(resident), "graph.bin" in resident, sum(resident.values()))
"""


@pytest.mark.parametrize("streams", [1, 2])
def test_a_graph_that_was_compiled_just_now_is_held_like_one_from_the_kernel_cache(
    tiny: Path, tmp_path: Path, streams: int
) -> None:
    """Its tables are pages of the cached file, none of them resident: kernels have copies as they want them."""
    Workshop(tiny, tmp_path).graph("fp32")
    for when in ("first start", "second start"):
        command = [sys.executable, "-c", HELD, str(tiny), str(tmp_path), str(streams)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{streams} False 0\n"), (when, done.stderr)
