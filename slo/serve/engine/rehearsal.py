"""
A model's first answer in a process of its own, before anything that serves is given up for it.

`python -m slo.serve.engine.rehearsal ENGINE DEVICE PRECISION MODEL CACHE` does all that a start does and that can fail
because of the files: conversion, quantisation, the fidelity gate, compiling, a few texts. What is made stays, so that
the start which follows finds it. On a GPU machine the weights are tried on the processor: the card belongs to the model
that still serves. An expected failure comes back on stdout as one JSON object, as from `helper`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from slo.errors import ModelSourceError, SloError
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.helper import log_progress, report_failure
from slo.serve.engine.loading import DEFAULT_PASS_TOKENS, Workshop, cores
from slo.serve.engine.openvino_forward import supported_precisions
from slo.serve.engine.runtime import Runtime

NICER = 10  # the model that serves meanwhile comes first
TEXTS = ["今天天气怎么样", "how is the weather today", "", "长" * 2000]
OPENVINO, SENTENCE_TRANSFORMERS = "openvino", "sentence_transformers"


def rehearse(engine: str, device: str, precision: str, directory: Path, cache: Path) -> int:
    """The dimension of the vectors that `engine` makes. Raises ModelSourceError or QuantizeError.

    Only the two engines named above can be tried here; others answer -1.
    """
    if engine == OPENVINO:
        vectors = _ours(device, precision, directory, cache)
    elif engine == SENTENCE_TRANSFORMERS:
        vectors = _theirs(directory)
    else:
        return -1
    if not np.isfinite(vectors).all() or not np.abs(vectors).sum(axis=1).all():
        raise ModelSourceError(f"{directory}: the model gives vectors that are zero or not numbers")
    return int(vectors.shape[1])


def _ours(device: str, precision: str, directory: Path, cache: Path) -> Vectors:
    workshop = Workshop(directory, cache, progress=log_progress())
    if device == "cpu":
        chosen = workshop.choose(precision).precision
        hint = supported_precisions()[chosen]
        graph = workshop.graph(chosen)
        return workshop.runtime(graph, hint, threads=cores(), pass_tokens=DEFAULT_PASS_TOKENS).embed(TEXTS)
    from slo.serve.engine.torch_forward import TorchForward  # noqa: PLC0415 - brings torch

    forward = TorchForward(workshop.files, device="cpu", precision="fp32")
    return Runtime(workshop.files, workshop.tokenizer(), forward, pass_tokens=DEFAULT_PASS_TOKENS).embed(TEXTS)


def _theirs(directory: Path) -> Vectors:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds, and rarely needed

    try:
        model: Any = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
        return np.asarray(model.encode(TEXTS, show_progress_bar=False), dtype=np.float32)
    except Exception as error:  # whatever a foreign library makes of foreign files
        reason = " ".join(str(error).split())[:500]
        raise ModelSourceError(f"{directory}: sentence-transformers cannot run it: {reason}") from error


def main(arguments: list[str]) -> int:
    """Rehearse; 0 with the dimension on stdout, or 2 after an expected failure."""
    engine, device, precision, directory, cache = arguments
    os.nice(NICER)
    try:
        print(rehearse(engine, device, precision, Path(directory), Path(cache)))  # noqa: T201
    except SloError as error:
        return report_failure(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
