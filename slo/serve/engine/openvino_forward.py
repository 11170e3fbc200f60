"""One pass on the CPU by OpenVINO: one stream, all its threads on one pass at a time."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from slo.errors import QuantizeError
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.packing import Pass
from slo.serve.engine.precision import Precision


@cache
def core() -> ov.Core:
    """The process's one OpenVINO core, which lives as long as the process does.

    Its CPU plugin gives the creating thread a stack for signal handlers and unmaps it when the plugin goes. If its last
    user goes on another thread, the first is left with a stack that is not there: the next signal kills the process.
    """
    return ov.Core()


class OpenVinoForward:
    """A compiled graph. Calls must not overlap: it owns one set of buffers."""

    def __init__(self, graph: Path, *, hint: str, threads: int, compiled: Path | None) -> None:
        """`hint` is the arithmetic of what is not int8, "bf16" or "f32"; `compiled` a folder for the kernel cache."""
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": "1",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the API process and other replicas want the same cores
        }
        if compiled is not None:
            options["CACHE_DIR"] = str(compiled)
        try:
            self._compiled = core().compile_model(str(graph), "CPU", options)
        except RuntimeError as error:
            raise QuantizeError(f"OpenVINO cannot compile {graph}: {error}") from error
        self._request = self._compiled.create_infer_request()
        self._tensor = ov.Tensor
        self.threads = threads

    def __call__(self, packed: Pass) -> Vectors:
        for name, array in packed.inputs().items():
            self._request.set_tensor(name, self._tensor(array, shared_memory=True))
        self._request.infer()
        # a copy, and only of the rows in use: the buffer belongs to the next pass
        return np.array(self._request.get_output_tensor(0).data[: len(packed.texts)], dtype=np.float32)


def supported_precisions() -> dict[Precision, str]:
    """The precisions that this CPU runs natively → the hint for what is not int8."""
    capabilities = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" in capabilities:
        return {"int8": "bf16", "bf16": "bf16", "fp32": "f32"}
    return {"int8": "f32", "fp32": "f32"}


def int8_instructions() -> bool:
    """Does this CPU multiply int8 numbers as such (AMX, VNNI)? Others take several steps, which may not pay."""
    return any(name in cpu_kind() for name in ("amx_int8", "vnni"))


def cpu_kind() -> str:
    """The instruction sets that decide rounding, as one word: measured fidelity holds for this kind only."""
    flags = Path("/proc/cpuinfo")
    known = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512f", "avx2")
    if not flags.is_file():
        return "other"
    words = set(flags.read_text(encoding="utf-8").split())
    return "+".join(name for name in known if name in words) or "other"
