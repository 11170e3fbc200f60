"""One pass by torch: GPUs in half precision. The same packing, the same vectors, another device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from slo.errors import EnvironmentProblem
from slo.serve.engine.encoder import load_encoder
from slo.serve.engine.encoder_files import EncoderFiles
from slo.serve.engine.fidelity import Precision, Vectors
from slo.serve.engine.packing import Ints, Pass

DTYPES: dict[Precision, str] = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
REHEARSALS = 2  # passes before a recording: libraries allocate and choose their kernels in them


class TorchForward:
    """A packed encoder on a torch device, e.g. "cuda:0"; `precision` is fp16, bf16 or fp32. Calls must not overlap.

    On CUDA each shape is recorded as a graph when it is first met, which the warm-up sees to: a pass is then one
    launch instead of some 200 kernels, that would take the processor longer to start than the GPU to run.
    """

    def __init__(self, files: EncoderFiles, *, device: str, precision: Precision) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EnvironmentProblem(f"no GPU is visible for the device {device!r}", hint="use --device cpu")
        self._device = torch.device(device)
        self._encoder = load_encoder(files).to(device=self._device, dtype=getattr(torch, DTYPES[precision]))
        self._recordings: dict[tuple[int, int], Recording] = {}
        self._pool: Any = None

    def __call__(self, packed: Pass) -> Vectors:
        if self._device.type == "cuda":
            return self._replayed(packed)
        with torch.inference_mode():
            vectors = self._encoder(*(torch.from_numpy(array).to(self._device) for array in packed.inputs().values()))
            return np.array(vectors[: len(packed.texts)].float().cpu().numpy(), dtype=np.float32)

    def _replayed(self, packed: Pass) -> Vectors:
        with torch.inference_mode(), torch.cuda.device(self._device):
            shape = packed.ids.size, packed.rows.size
            if shape not in self._recordings:
                self._pool = self._pool or torch.cuda.graph_pool_handle()  # passes do not overlap: one memory for all
                self._recordings[shape] = Recording(self._encoder, packed, self._device, self._pool)
            return self._recordings[shape](packed)


class Recording:
    """A CUDA graph of the passes of one shape, between page-locked buffers for what goes in and comes out."""

    def __init__(self, encoder: Any, packed: Pass, device: torch.device, pool: Any) -> None:
        flat = _flat(packed)
        self._host = torch.from_numpy(flat).pin_memory()
        self._given = self._host.to(device)
        inputs = _inputs(self._given, packed.ids.size)
        aside = torch.cuda.Stream(device)
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(REHEARSALS):
                encoder(*inputs)
        torch.cuda.current_stream(device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._vectors = encoder(*inputs).float()
        self._answer = torch.empty(self._vectors.shape, dtype=torch.float32, pin_memory=True)

    def __call__(self, packed: Pass) -> Vectors:
        """One pass of this shape; waits for it."""
        texts = len(packed.texts)
        self._host.numpy()[:] = _flat(packed)
        self._given.copy_(self._host, non_blocking=True)
        self._graph.replay()
        self._answer[:texts].copy_(self._vectors[:texts], non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return np.array(self._answer.numpy()[:texts])  # a copy: the buffer belongs to the next pass


def _flat(packed: Pass) -> Ints:
    """All inputs in one array, which goes to the device in one piece."""
    return np.concatenate([array.ravel() for array in packed.inputs().values()])


def _inputs(flat: torch.Tensor, tokens: int) -> tuple[torch.Tensor, ...]:
    """The encoder's inputs out of `_flat`, attention in one row."""
    rows = flat.numel() - 6 * tokens
    ids, positions, owners, *_ = flat[: 3 * tokens].view(3, tokens)
    slots, places, back = flat[3 * tokens + rows :].view(3, tokens)
    return ids, positions, owners, flat[3 * tokens : 3 * tokens + rows], slots[None], places[None], back
