"""
The machine's roof: how fast its int8 matrix products are, and so how many requests a second are possible at most.

Nothing but the matrix products of a BERT encoder is run, in the model's own shapes and through OpenVINO as the engine
does: per layer four products hidden × hidden (query, key, value, output) and the two of the feed-forward part, weights
int8, activations quantised. No attention between tokens, no norms, no tokenizer, no HTTP: what a server reaches of
this is its efficiency, and nothing reaches more of it with this arithmetic.

A product of m × k by k × n counts 2·m·k·n operations, so one token costs 2·(4·h² + 2·h·f)·layers: 0.17 giga-operations
for BERT-base (h = 768, f = 3072, 12 layers).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from slo.errors import RunError

GIGA = 1e9
RANGE = 4.0  # of the activations, before they are quantised to 8 bits


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The matrices of the model: hidden and feed-forward width, number of layers. Default: BERT-base."""

    hidden: int = 768
    wide: int = 3072
    layers: int = 12

    @property
    def operations_per_token(self) -> float:
        """Two per weight."""
        return 2.0 * (4 * self.hidden**2 + 2 * self.hidden * self.wide) * self.layers


@dataclass(frozen=True, kw_only=True)
class Roof:
    """Giga-operations per second by `rows` at a time: median and best; `kernels` is what OpenVINO ran them with."""

    rows: int
    threads: int
    gop_per_s: float
    best_gop_per_s: float
    kernels: tuple[str, ...]
    encoder: Encoder

    def requests_per_s(self, tokens: float) -> float:
        """Most requests per second of so many tokens each, by the median rate."""
        return self.gop_per_s * GIGA / (self.encoder.operations_per_token * tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"kernels": list(self.kernels)}


def products(encoder: Encoder, rows: int, *, seed: int = 1) -> ov.Model:
    """The graph: all products of the encoder, one after the other, over `rows` tokens."""
    source = np.random.default_rng(seed)
    given = ops.parameter([rows, encoder.hidden], np.float32, name="rows")
    ends = []
    flow = given
    for _ in range(encoder.layers):
        ends += [_product(flow, encoder.hidden, encoder.hidden, source) for _ in range(2)]  # query and key end here
        value = _product(flow, encoder.hidden, encoder.hidden, source)
        output = _product(value, encoder.hidden, encoder.hidden, source)
        flow = _product(_product(output, encoder.hidden, encoder.wide, source), encoder.wide, encoder.hidden, source)
    # One number of each dead end, so that nothing is optimised away.
    sums = [ops.reduce_max(end, np.array([0, 1]), keep_dims=True) for end in ends]
    return ov.Model([flow, ops.concat(sums, 0)], [given], "products")


def _product(flow: Any, inner: int, outer: int, source: np.random.Generator) -> Any:
    """Quantise to unsigned or signed 8 bits, multiply by int8 weights; scaled so that the values keep their size."""
    bounds = [np.float32(-RANGE), np.float32(RANGE * 127 / 128)]
    quantised = ops.fake_quantize(flow, *bounds, *bounds, 256)
    weights = source.integers(-127, 128, (outer, inner), dtype=np.int8)
    scale = np.float32(1.7 / (127 * np.sqrt(inner)))
    scaled = ops.multiply(ops.convert(ops.constant(weights), np.float32), np.full((outer, 1), scale, np.float32))
    return ops.matmul(quantised, scaled, False, True)


def measure_roof(encoder: Encoder, rows: int, *, threads: int, hint: str, seconds: float = 3.0) -> Roof:
    """Run the products again and again for so long. `hint`: the arithmetic of what is not int8, "bf16" or "f32".

    Raises `RunError` if OpenVINO did not run them in int8: then there is no roof to speak of.
    """
    options = {
        "INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    compiled = ov.Core().compile_model(products(encoder, rows), "CPU", options)
    kernels = matrix_kernels(compiled)
    foreign = sorted(kernel for kernel in kernels if not kernel.lower().endswith("i8"))
    if foreign or not kernels:
        raise RunError(
            f"OpenVINO ran matrix products as {', '.join(foreign) or 'nothing known'}, not in int8",
            hint="the processor lacks int8 instructions, or this OpenVINO needs another graph",
        )
    request = compiled.create_infer_request()
    given = np.random.default_rng(2).uniform(-2, 2, (rows, encoder.hidden)).astype(np.float32)
    request.set_input_tensor(ov.Tensor(given))
    request.infer()
    times: list[float] = []
    end_s = time.perf_counter() + seconds
    while time.perf_counter() < end_s or len(times) < 5:
        begun_s = time.perf_counter()
        request.infer()
        times.append(time.perf_counter() - begun_s)
    work = encoder.operations_per_token * rows / GIGA
    return Roof(
        rows=rows, threads=threads, gop_per_s=work / statistics.median(times), best_gop_per_s=work / min(times),
        kernels=tuple(sorted(kernels)), encoder=encoder,
    )  # fmt: skip


def matrix_kernels(compiled: ov.CompiledModel) -> set[str]:
    """The kernels of all matrix products in a compiled graph, such as `brgemm_avx512_amx_I8`."""
    found = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        if facts["layerType"].astype(str) in ("FullyConnected", "MatMul"):
            found.add(facts["primitiveType"].astype(str))
    return found
