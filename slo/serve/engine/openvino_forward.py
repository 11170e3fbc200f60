"""Passes on the CPU by OpenVINO: one at a time with all threads, or as many as there are streams."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from slo.errors import QuantizeError
from slo.serve.engine.fidelity import Precision, Vectors
from slo.serve.engine.packing import Pass


@cache
def core() -> ov.Core:
    """The process's one OpenVINO core, which lives as long as the process does.

    Its CPU plugin gives the creating thread a stack for signal handlers and unmaps it when the plugin goes. If its last
    user goes on another thread, the first is left with a stack that is not there: the next signal kills the process.
    """
    return ov.Core()


class OpenVinoForward:
    """A compiled graph; with several streams two, of which the second runs passes with its share of the threads each.

    Calls of one stream must not overlap, nor those of all threads with any other: each owns its buffers.
    """

    def __init__(self, graph: Path, *, hint: str, threads: int, compiled: Path | None, streams: int = 1) -> None:
        """`hint` is the arithmetic of what is not int8, "bf16" or "f32"; `compiled` a folder for the kernel cache."""
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # the API process and other replicas want the same cores
        }
        if compiled is not None:
            options["CACHE_DIR"] = str(compiled)
        try:
            self._narrow = _requests(str(graph), streams, options) if streams > 1 else []
            self._wide = _requests(in_one_row(graph), 1, options)[0]
        except RuntimeError as error:
            raise QuantizeError(f"OpenVINO cannot compile {graph}: {error}") from error
        self.threads = threads
        self.streams = streams

    def __call__(self, packed: Pass, stream: int | None = None) -> Vectors:
        """Run a pass on one stream, or with all threads; the latter cannot be laid out."""
        request = self._wide if stream is None else self._narrow[stream]
        for name, array in packed.inputs().items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        request.infer()
        # a copy, and only of the rows in use: the buffer belongs to the next pass
        return np.array(request.get_output_tensor(0).data[: len(packed.texts)], dtype=np.float32)


def _requests(model: ov.Model | str, streams: int, options: dict[str, Any]) -> list[ov.InferRequest]:
    options = {**options, "NUM_STREAMS": str(streams)}
    before = _blobs(options)
    compiled = core().compile_model(model, "CPU", options)
    if _blobs(options) - before:
        # What was compiled just now holds its tables in memory of its own, 60 MiB for BERT-base, and what compiling
        # took lies about; read back from the cache they are the file's pages.
        del compiled
        compiled = core().compile_model(model, "CPU", options)
    return [compiled.create_infer_request() for _ in range(streams)]


def _blobs(options: dict[str, Any]) -> set[str]:
    """The graphs in the kernel cache, if there is one."""
    return {path.name for path in Path(options["CACHE_DIR"]).glob("*.blob")} if "CACHE_DIR" in options else set()


def in_one_row(graph: Path) -> ov.Model:
    """The graph without the moving about for attention, which a pass that is not laid out does not need.

    It costs a lone text 5 %: threads wait for each other at four more steps in each layer.
    """
    model = core().read_model(str(graph))
    for node in model.get_ops():
        if node.get_type_name() == "Gather" and _root(node.input_value(1)) in ("slots", "back"):
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(node.input_value(0))
    model.validate_nodes_and_infer_types()
    return model


def _root(output: ov.Output) -> str:
    """Name of the input that an output is, but for its shape or type."""
    node = output.get_node()
    while node.get_type_name() in ("Reshape", "Convert", "Unsqueeze", "Squeeze"):
        node = node.input_value(0).get_node()
    return str(node.get_friendly_name())


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
