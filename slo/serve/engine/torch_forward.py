"""One pass by torch: GPUs in half precision. The same packing, the same vectors, another device."""

from __future__ import annotations

import numpy as np
import torch

from slo.errors import EnvironmentProblem
from slo.serve.engine.encoder import load_encoder
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.model_files import ModelFiles
from slo.serve.engine.packing import Pass

DTYPES = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


class TorchForward:
    """A packed encoder on a torch device, e.g. "cuda:0"; `precision` is fp16, bf16 or fp32."""

    def __init__(self, files: ModelFiles, *, device: str, precision: str) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise EnvironmentProblem(f"no GPU is visible for the device {device!r}", hint="use --device cpu")
        self._device = torch.device(device)
        self._encoder = load_encoder(files).to(device=self._device, dtype=getattr(torch, DTYPES[precision]))

    def __call__(self, packed: Pass) -> Vectors:
        with torch.inference_mode():
            stacked = torch.from_numpy(np.stack([packed.ids, packed.positions, packed.owners])).to(self._device)
            rows = torch.from_numpy(packed.rows).to(self._device)
            vectors = self._encoder(*stacked, rows)[: len(packed.texts)]
            return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)
