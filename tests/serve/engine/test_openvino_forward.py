"""What one process may do with the engine's graphs, seen from outside: a fault here is the death of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
