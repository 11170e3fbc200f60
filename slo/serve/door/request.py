"""
From the body of `POST /v1/embeddings` to one frozen value, or to a `Problem` that says which field is wrong.

Where OpenAI and stock Xinference differ:

* `input`: a string or a list. Numbers become text (`[1, 2]` is the two texts "1" and "2"), as in stock; lists of
  token ids are refused, since ids of OpenAI's vocabulary mean nothing here (stock answers 500 without tiktoken).
  An empty list or an empty string is refused, as OpenAI does (stock embeds the empty string).
* `dimensions`: the leading values, normalised again, as OpenAI does; more than the model has is refused. Stock
  ignores it for BERT models.
* `truncate: false` refuses over-long texts with 400 instead of cutting them silently, which is the default as in stock.
* `truncate_prompt_tokens` is left to Xinference's own handler, which cuts the texts before our engine sees them.
* Fields that would change the vectors in stock, and are not implemented here, are refused; all others are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from slo.config import LimitsSection
from slo.serve.door.problem import invalid, unknown_model

# Stock hands these to the engine, where they change the answer. Value: what is harmless because it is the default.
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "normalize_embeddings": (None, True),
    "return_sparse": (None, False),
    "prompt": (None, ""),
    "prompt_name": (None, ""),
    "task": (None, ""),
    "instruction": (None, ""),
}
MAX_DIMENSIONS = 65_536
MAX_NAME = 200  # characters; names are remembered and asked for, and no model has a longer one


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What was asked for. `dimensions` is None for all of them."""

    model: str
    texts: tuple[str, ...]
    base64: bool = False
    dimensions: int | None = None
    truncate: bool = True


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises `Problem` 400 for anything else: bad UTF-8, too deep, not an object."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON: {error.msg} at byte {error.pos}", reason="invalid_json") from None
    if not isinstance(data, dict):
        raise invalid("the body must be a JSON object")
    return data


def model_of(data: dict[str, Any]) -> str:
    """The field `model`. Raises `Problem` 400, or 404 for what is too long to be a name."""
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise invalid("'model' must be the name of a model", param="model")
    if len(model) > MAX_NAME:
        raise unknown_model(model)
    return model


def needs_built_in(data: dict[str, Any]) -> bool:
    """Does the request use what only Xinference's own handler does? Raises `Problem` 400."""
    limit = data.get("truncate_prompt_tokens")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise invalid("'truncate_prompt_tokens' must be a whole number", param="truncate_prompt_tokens")
    return limit is not None and limit >= 0


def parse(data: dict[str, Any], limits: LimitsSection) -> EmbeddingRequest:
    """The request in `data`. Raises `Problem` 400 naming the field."""
    model = model_of(data)
    texts = _texts(data.get("input"), limits.max_inputs)
    encoding = data.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise invalid("'encoding_format' must be 'float' or 'base64'", param="encoding_format")
    truncate = data.get("truncate")
    if truncate is not None and not isinstance(truncate, bool):
        raise invalid("'truncate' must be true or false", param="truncate")
    user = data.get("user")
    if user is not None and not isinstance(user, str):
        raise invalid("'user' must be a string", param="user")
    if len(data) > 2:
        for name, harmless in UNSUPPORTED.items():
            if name in data and data[name] not in harmless:
                raise invalid(f"'{name}' is not supported by this engine", param=name)
    return EmbeddingRequest(
        model, texts, encoding == "base64", _dimensions(data.get("dimensions")), truncate is not False
    )


def _texts(value: Any, limit: int) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    elif _is_number(value):
        value = [str(value)]
    elif value is None:
        raise invalid("'input' is missing", param="input")
    elif not isinstance(value, list):
        raise invalid("'input' must be a string or a list of strings", param="input")
    if not value:
        raise invalid("'input' is empty", param="input")
    if len(value) > limit:
        raise invalid(f"'input' has {len(value)} items, at most {limit} are allowed", param="input")
    return tuple([item if type(item) is str and item else _text(item, index) for index, item in enumerate(value)])


def _text(item: Any, index: int) -> str:
    if item == "":
        raise invalid(f"'input[{index}]' is an empty string", param="input")
    if _is_number(item):
        return str(item)
    if isinstance(item, list):
        raise invalid(
            "lists of token ids are not supported: ids of another vocabulary mean nothing to this model; send text",
            param="input",
        )
    raise invalid(f"'input[{index}]' must be a string", param="input")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dimensions(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DIMENSIONS:
        raise invalid("'dimensions' must be a positive whole number", param="dimensions")
    return value
