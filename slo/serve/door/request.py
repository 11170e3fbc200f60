"""
From the body of `POST /v1/embeddings` to one frozen value, or to a `Problem` that says which field is wrong.

What Xinference's own engine sentence_transformers honours is honoured: `normalize_embeddings` (true unless given, as
there null means false), `prompt`, `prompt_name`, `truncate_prompt_tokens`. What it refuses, or takes and ignores
although the sender must expect other vectors of it, is a 400; all other fields are ignored, as there.

Where OpenAI and stock Xinference differ:

* `input`: a string or a list. A list of whole numbers is one text in token ids, and a list of such lists several, as
  OpenAI has it; both are decoded where stock decodes them (see `TokenIds`), else refused. Stock takes the first for
  texts that are numbers, and without tiktoken answers 500 to the second. Other numbers become text, as in stock. An
  empty list or an empty string is refused, as OpenAI does (stock embeds the empty string).
* `dimensions`: the leading values, normalised again, as OpenAI does; more than the model has is refused. Stock does
  the same if the model is launched with `dimensions`, and ignores the request's for BERT models.
* `truncate: false` refuses over-long texts with 400 instead of cutting them silently, which is the default as in stock.

Token ids (`TokenIds`) are decoded where Xinference decodes them: as ids of OpenAI's vocabulary cl100k_base, if the
package tiktoken is installed. That loads a table of its own, perhaps from the network: when it is first needed, beside
the event loop.

All that is so for models on our engine. For those on one of Xinference's own, what is more than texts (`is_plain`)
goes to Xinference's route as it is.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from slo.serve.door.problem import Problem, invalid, not_ready, unknown_model
from slo.settings_serve import LimitsSection

VOCABULARY = "cl100k_base"
PATIENCE_S = 30.0  # for a table that does not come
ADVICE = "send text instead (OpenAIEmbeddings of LangChain: check_embedding_ctx_length=False)"

logger = logging.getLogger("xinference.slo")

Encoding = Any  # tiktoken's, of which `decode_single_token_bytes` is used
Load = Callable[[], Encoding]


class TokenIds:
    """Called with the ids of one text, gives the text. `load` gives the vocabulary; None: there is none here."""

    def __init__(self, load: Load | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._now = monotonic
        self._started_s: float | None = None
        self._encoding: Encoding = None

    def __call__(self, ids: Sequence[int]) -> str:
        """Raises `Problem`: 400 for ids that are none, or that cannot be read here; 503 while the table is loaded."""
        if self._load is None:
            raise _unreadable("this server has no vocabulary for them")
        if self._encoding is None:
            self._wait(self._load)
        try:
            text = b"".join(self._encoding.decode_single_token_bytes(token) for token in ids).decode()
        except (KeyError, ValueError, OverflowError, TypeError):
            raise _unreadable(f"these are not ids of {VOCABULARY} that make a text") from None
        if not text:
            raise _unreadable("they make an empty text")
        return text

    def _wait(self, load: Load) -> None:
        """Have the table loaded, and raise until it is there."""
        if self._started_s is None:
            self._started_s = self._now()
            threading.Thread(target=self._fetch, args=(load,), daemon=True).start()
        if self._load is not None and self._now() - self._started_s < PATIENCE_S:
            raise not_ready(f"the vocabulary {VOCABULARY} is being loaded", retry_after_s=1)
        raise _unreadable(f"the vocabulary {VOCABULARY} cannot be loaded")

    def _fetch(self, load: Load) -> None:
        try:
            self._encoding = load()
        except Exception:  # whatever a download may raise
            logger.exception("xinference-slo: the vocabulary %s for token ids cannot be loaded", VOCABULARY)
            self._load = None


def tiktoken_loader() -> Load | None:
    """How Xinference gets the vocabulary; None without tiktoken."""
    if importlib.util.find_spec("tiktoken") is None:
        return None

    def load() -> Encoding:
        return importlib.import_module("tiktoken").get_encoding(VOCABULARY)

    return load


def _unreadable(why: str) -> Problem:
    return invalid(f"'input' holds token ids: {why}; {ADVICE}", param="input", reason="token_ids")


# What is refused unless it is harmless: the harmless values, and why anything else is refused.
REFUSED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "return_sparse": ((None, False), "this model gives dense vectors only"),
    "output_value": (("sentence_embedding",), "this engine gives sentence embeddings only"),
    "task": ((None, ""), "it has no effect on this model; send 'prompt_name' or 'prompt'"),
    "instruction": ((None, ""), "it has no effect on this model; send 'prompt', which is put before each text"),
}
MAX_PROMPT = 8192  # characters; it is put before each of up to thousands of texts
UNREADABLE = TokenIds(None)
MAX_DIMENSIONS = 65_536
PLAIN_FIELDS = frozenset({"model", "input", "encoding_format", "user"})
MAX_NAME = 200  # characters; names are remembered and asked for, and no model has a longer one


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What was asked for. `dimensions` is None for all of them, `limit` for as many tokens as the model takes."""

    model: str
    texts: tuple[str, ...]
    base64: bool = False
    dimensions: int | None = None
    truncate: bool = True
    normalise: bool = True
    prompt: str | None = None
    prompt_name: str | None = None
    limit: int | None = None


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


def is_plain(data: dict[str, Any], most: int) -> bool:
    """Is there nothing in it but texts, at most `most`, that one of Xinference's own engines would read?"""
    value = data.get("input")
    texts = [value] if isinstance(value, str) else value
    return (
        data.keys() <= PLAIN_FIELDS
        and isinstance(texts, list)
        and 0 < len(texts) <= most
        and all(isinstance(text, str) and text for text in texts)
        and data.get("encoding_format") in (None, "float", "base64")
        and isinstance(data.get("user", ""), str)
    )


def parse(
    data: dict[str, Any], limits: LimitsSection, read_ids: Callable[[list[int]], str] = UNREADABLE
) -> EmbeddingRequest:
    """The request in `data`. Raises `Problem` 400 naming the field, or what `read_ids` raises for token ids."""
    model = model_of(data)
    texts = _texts(data.get("input"), limits.max_inputs, read_ids)
    encoding = data.get("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise invalid("'encoding_format' must be 'float' or 'base64'", param="encoding_format")
    if len(data) == 2:
        return EmbeddingRequest(model, texts)
    _string(data, "user")
    for name, (harmless, why) in REFUSED.items():
        if name in data and data[name] not in harmless:
            raise invalid(f"'{name}' is not supported: {why}", param=name)
    prompt = _string(data, "prompt")
    if prompt is not None and len(prompt) > MAX_PROMPT:
        raise invalid(f"'prompt' has {len(prompt)} characters, at most {MAX_PROMPT} are allowed", param="prompt")
    limit = data.get("truncate_prompt_tokens")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise invalid("'truncate_prompt_tokens' must be a whole number", param="truncate_prompt_tokens")
    return EmbeddingRequest(
        model, texts, encoding == "base64", _dimensions(data.get("dimensions")), _bool(data, "truncate") is not False,
        bool(_bool(data, "normalize_embeddings", absent=True)), prompt, _string(data, "prompt_name"), limit,
    )  # fmt: skip


def _bool(data: dict[str, Any], name: str, *, absent: bool | None = None) -> bool | None:
    value = data.get(name, absent)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"'{name}' must be true or false", param=name)
    return value


def _string(data: dict[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid(f"'{name}' must be a string", param=name)
    return value


def _texts(value: Any, limit: int, read_ids: Callable[[list[int]], str]) -> tuple[str, ...]:
    if isinstance(value, str) or _are_ids(value):
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
    return tuple(
        [item if type(item) is str and item else _text(item, index, read_ids) for index, item in enumerate(value)]
    )


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _text(item: Any, index: int, read_ids: Callable[[list[int]], str]) -> str:
    if item == "":
        raise invalid(f"'input[{index}]' is an empty string", param="input")
    if _is_number(item):
        return str(item)
    if _are_ids(item):
        return read_ids(item)
    raise invalid(f"'input[{index}]' must be a string", param="input")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dimensions(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DIMENSIONS:
        raise invalid("'dimensions' must be a positive whole number", param="dimensions")
    return value
