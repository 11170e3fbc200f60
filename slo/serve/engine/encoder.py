"""
The packed forward pass in torch: source of the OpenVINO graph, the engine on GPUs, and the fp32 reference of tests.

BERT, RoBERTa and XLM-RoBERTa share one skeleton; this module borrows the weights of the Hugging Face model and works
on one row of tokens (see `packing`) instead of batch × length. With CLS pooling the last layer computes its queries
and everything behind them for the CLS rows only: 5 % less work.

`convert` traces its packed forward pass into an OpenVINO graph with integer inputs, those of a `Pass`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import openvino as ov
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModel
from transformers.utils import logging

from slo.errors import ModelSourceError, QuantizeError
from slo.serve.engine.encoder_files import FALL_BACK, EncoderFiles, Pooling
from slo.serve.engine.openvino_forward import core
from slo.serve.engine.packing import INPUTS, Shapes, pack

# DDP and torch.compile put these before every name; the checkpoint is whole without them.
UNWRAPPED = {r"^(?:module\.|_orig_mod\.)+": ""}
POOLER = "pooler."  # never used by an embedding model: neither missing nor left over does it matter
HEADS = ("cls.", "lm_head.", "classifier.", "qa_outputs.")  # of the task that the encoder was trained or fine-tuned on
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # counted numbers, which older versions wrote
SHOWN_KEYS = 4

HIDDEN_FROM = -30000.0  # added to the scores of tokens that are not one's own; fits into half precision
TOLERANCE = 1e-4  # largest element-wise difference between torch and the graph, both in fp32


class PackedLayer(nn.Module):  # type: ignore[misc]
    """One encoder layer over states [tokens, hidden]."""

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        attention = layer.attention
        # separate products: OpenVINO runs them 3 % faster than one of triple width that must be split again
        self.query, self.key, self.value = attention.self.query, attention.self.key, attention.self.value
        self.attended = attention.output.dense
        self.attended_norm = attention.output.LayerNorm
        self.widen = layer.intermediate.dense
        self.activation = layer.intermediate.intermediate_act_fn
        self.narrow = layer.output.dense
        self.norm = layer.output.LayerNorm
        self.heads = heads

    def forward(
        self, states: torch.Tensor, mask: torch.Tensor, slots: torch.Tensor, back: torch.Tensor
    ) -> torch.Tensor:
        """`mask` [rows, 1, length, length] is added to the scores of the layout that `slots` and `back` describe."""
        there = slots.reshape(-1)
        query, key, value = (
            self._by_head(part(states).index_select(0, there), slots.shape[0], slots.shape[1])
            for part in (self.query, self.key, self.value)
        )
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self._behind(self._flat(seen).index_select(0, back), states)

    def of_rows(self, states: torch.Tensor, mask: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """The layer's states of `rows` [n] only; `mask` is [1, 1, n, tokens]."""
        asking = states.index_select(0, rows)
        query, key, value = self.query(asking), self.key(states), self.value(states)
        seen = nn.functional.scaled_dot_product_attention(
            self._by_head(query, 1, -1), self._by_head(key, 1, -1), self._by_head(value, 1, -1), attn_mask=mask
        )
        return self._behind(self._flat(seen), asking)

    def _behind(self, seen: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = self.attended_norm(self.attended(seen) + states)
        result: torch.Tensor = self.norm(self.narrow(self.activation(self.widen(attended))) + attended)
        return result

    def _by_head(self, flat: torch.Tensor, rows: int, length: int) -> torch.Tensor:
        return flat.reshape(rows, length, self.heads, flat.shape[-1] // self.heads).transpose(1, 2)

    def _flat(self, by_head: torch.Tensor) -> torch.Tensor:
        return by_head.transpose(1, 2).reshape(-1, self.heads * by_head.shape[-1])


class PackedEncoder(nn.Module):  # type: ignore[misc]
    """The inputs of a `Pass` → vectors [texts, hidden]."""

    def __init__(self, model: Any, *, pooling: Pooling, normalise: bool) -> None:
        super().__init__()
        embeddings = model.embeddings
        self.words = embeddings.word_embeddings
        self.positions = embeddings.position_embeddings
        self.register_buffer("segment", embeddings.token_type_embeddings.weight[0].detach().clone())
        self.norm = embeddings.LayerNorm
        heads = model.config.num_attention_heads
        self.layers = nn.ModuleList(PackedLayer(layer, heads) for layer in model.encoder.layer)
        self.pooling = pooling
        self.normalise = normalise

    def forward(
        self, ids: torch.Tensor, positions: torch.Tensor, owners: torch.Tensor, rows: torch.Tensor,
        slots: torch.Tensor, places: torch.Tensor, back: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        states = self.norm(self.words(ids) + self.positions(positions) + self.segment)
        apart = (places.unsqueeze(2) != places.unsqueeze(1)).to(states.dtype).unsqueeze(1) * HIDDEN_FROM
        for layer in self.layers[:-1]:
            states = layer(states, apart, slots, back)
        if self.pooling == "cls":
            own = owners.index_select(0, rows)
            others = (own.unsqueeze(1) != owners.unsqueeze(0)).to(states.dtype) * HIDDEN_FROM
            vectors = self.layers[-1].of_rows(states, others.unsqueeze(0).unsqueeze(0), rows)
        else:
            states = self.layers[-1](states, apart, slots, back)
            members = (rows.unsqueeze(1) == owners.unsqueeze(0)).to(states.dtype)
            vectors = members.matmul(states) / members.sum(dim=1, keepdim=True).clamp(min=1.0)
        return nn.functional.normalize(vectors, dim=-1) if self.normalise else vectors


def load_encoder(files: EncoderFiles) -> PackedEncoder:
    """Read the weights in fp32, whatever precision they are stored in. Takes seconds: imports transformers.

    Raises ModelSourceError naming the weights that are missing or belong to another model: transformers would put
    random numbers in their place and say so in a warning.
    """
    logging.set_verbosity_error()  # an unused pooler is no news
    logging.disable_progress_bar()
    model, found = AutoModel.from_pretrained(
        str(files.directory), dtype=torch.float32, local_files_only=True, key_mapping=UNWRAPPED,
        output_loading_info=True,
    )  # fmt: skip
    _require_all(files, missing=found["missing_keys"], unexpected=found["unexpected_keys"])
    encoder: PackedEncoder = PackedEncoder(model, pooling=files.pooling, normalise=files.normalise).eval()
    return encoder


def _require_all(files: EncoderFiles, *, missing: Collection[str], unexpected: Collection[str]) -> None:
    absent = sorted(name for name in missing if not name.startswith(POOLER))
    odd = sorted(name for name in unexpected if not _harmless(name))
    faults = [f"{_listed(names)} {what}" for names, what in ((absent, "missing"), (odd, "unknown")) if names]
    if faults:
        raise ModelSourceError(
            f"the weights in {files.directory} do not fit config.json: {'; '.join(faults)}",
            hint="save the encoder itself (model.state_dict() of the Hugging Face model), or copy the model again",
        )


def _harmless(name: str) -> bool:
    bare = name.partition(".")[2] if name.partition(".")[0] in ("bert", "roberta") else name
    return bare.startswith((POOLER, *HEADS)) or bare in BUFFERS


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_KEYS} more" if len(names) > SHOWN_KEYS else ""
    return ", ".join(names[:SHOWN_KEYS]) + more


def convert(files: EncoderFiles) -> ov.Model:
    """Convert and prove it: the graph must give torch's own vectors on shapes it was not traced with.

    Raises QuantizeError when the model does not fit the BERT skeleton or the two disagree.
    """
    try:
        encoder = load_encoder(files)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ModelSourceError(f"the weights in {files.directory} cannot be read: {error}") from error
    except (AttributeError, ValueError) as error:
        raise QuantizeError(
            f"{files.directory} does not load as a {files.family} encoder: {error}", hint=FALL_BACK
        ) from error

    def example(lengths: list[int]) -> tuple[torch.Tensor, ...]:
        texts = [[(7 * length + place) % 97 + 1 for place in range(length)] for length in lengths]
        shapes = Shapes.up_to(512, 512)
        packed = pack(
            texts, range(len(texts)), shapes, pooling=files.pooling, first_position=files.first_position, laid_out=True
        )
        return tuple(torch.from_numpy(array) for array in packed.inputs().values())

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated in torch, yet it is what OpenVINO's front end does
        traced = example([7, 5])
        shapes = [ov.PartialShape([-1] * tensor.dim()) for tensor in traced]
        model = ov.convert_model(encoder, example_input=traced, input=shapes)
        check = example([3, 20, 11])
        expected = encoder(*check).numpy()
    for name, port in zip(INPUTS, model.inputs, strict=True):
        port.set_names({name})
        port.node.set_friendly_name(name)
        port.node.set_element_type(ov.Type.i32)
    model.validate_nodes_and_infer_types()
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    difference = float(np.abs(compiled([tensor.numpy() for tensor in check])[0] - expected).max())
    scale = max(1.0, float(np.abs(expected).max()))
    if not difference <= TOLERANCE * scale:
        raise QuantizeError(f"the converted graph differs from torch by {difference:.1e}", hint=FALL_BACK)
    return model
