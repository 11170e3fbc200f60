"""
Do our vectors equal those of sentence-transformers, which reads the model's folder by itself?

Everything that this engine has of its own is compared with it: tokenizer, packing, pooling and what comes behind. Asked
once per conversion, in fp32; how much a cheaper precision loses against that is `fidelity`'s question.

Alone: it brings torch, which a serving process must not load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from slo.errors import QuantizeError
from slo.serve.engine.encoder import UNWRAPPED
from slo.serve.engine.encoder_files import FALL_BACK, EncoderFiles
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.runtime import Runtime

TEXTS = (
    "今天天气真不错", "如何重置登录密码？", "Embedding models SERVE many texts.", "混合 mixed 文本 123，《标题》",
    "é ﬁ 🤖",
    "这是一个比较长的句子，用来检查位置编码和注意力在更多词元上是否一致。" * 3,
)  # fmt: skip
TOLERANCE = 1e-3  # of the length of a vector; fp32 on another path differs by 1e-6, a wrong token or pooling by 1e-1


def require_agreement(files: EncoderFiles, runtime: Runtime) -> None:
    """Embed a few texts both ways. Raises QuantizeError when a vector differs, or sentence-transformers cannot."""
    try:
        expected = _theirs(files)
    except Exception as error:  # whatever a foreign library makes of foreign files
        reason = " ".join(str(error).split())[:300]
        raise QuantizeError(f"sentence-transformers does not run {files.directory}: {reason}") from error
    found = runtime.embed(TEXTS)
    if expected.shape != found.shape:
        raise QuantizeError(
            f"our vectors have {found.shape[1]} dimensions, those of sentence-transformers {expected.shape[1]}",
            hint=FALL_BACK,
        )
    off = np.linalg.norm(found - expected, axis=1) / np.maximum(np.linalg.norm(expected, axis=1), 1e-12)
    if not float(off.max()) <= TOLERANCE:
        raise QuantizeError(
            f"our vectors differ from those of sentence-transformers by {float(off.max()):.1e} of their length",
            hint=FALL_BACK,
        )


def _theirs(files: EncoderFiles) -> Vectors:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - seconds, and only once per model

    model: Any = SentenceTransformer(
        str(files.directory), device="cpu", local_files_only=True,
        model_kwargs={"key_mapping": UNWRAPPED, "dtype": torch.float32},
    )  # fmt: skip
    return np.asarray(model.encode(list(TEXTS), prompt="", show_progress_bar=False), dtype=np.float32)
