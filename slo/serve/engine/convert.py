"""PyTorch → OpenVINO: the packed forward pass traced into a graph with integer inputs, those of a `Pass`."""

from __future__ import annotations

import warnings

import numpy as np
import openvino as ov
import torch
from safetensors import SafetensorError

from slo.errors import ModelSourceError, QuantizeError
from slo.serve.engine.encoder import load_encoder
from slo.serve.engine.model_files import FALL_BACK, ModelFiles
from slo.serve.engine.openvino_forward import core
from slo.serve.engine.packing import INPUTS, Shapes, pack

TOLERANCE = 1e-4  # largest element-wise difference between torch and the graph, both in fp32


def convert(files: ModelFiles) -> ov.Model:
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
