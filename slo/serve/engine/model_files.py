"""
What a sentence-transformers directory says about itself: family, pooling, limits. Reads JSON only.

A model that this engine cannot serve raises QuantizeError with what was met; the caller then launches it with
Xinference's own sentence_transformers engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from slo.errors import ModelSourceError, QuantizeError

Pooling = Literal["cls", "mean"]

FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert")
FALL_BACK = "launch it with the engine sentence_transformers instead (--engine sentence_transformers)"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model as its own files describe it.

    `max_tokens` counts the special tokens; a longer text is truncated there, as sentence-transformers does.
    """

    directory: Path
    family: str
    pooling: Pooling
    normalise: bool
    dimensions: int
    max_tokens: int
    first_position: int
    filling_id: int
    lower_case: bool
    stand_in: bool


def read_model(directory: Path) -> ModelFiles:
    """Read and check a model directory.

    Raises ModelSourceError when files are missing or broken, QuantizeError when the model is of another kind.
    """
    directory = Path(directory)
    file = directory / "config.json"
    config = _json(file)
    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise QuantizeError(f"models of type {family!r} are not supported, only {', '.join(FAMILIES)}", hint=FALL_BACK)
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise QuantizeError("only encoders with absolute positions are supported", hint=FALL_BACK)
    if not any((directory / name).is_file() for name in WEIGHTS):
        raise ModelSourceError(f"{directory} holds no weights: none of {', '.join(WEIGHTS)}")
    pooling, normalise = _modules(directory)
    padding = _number(config.get("pad_token_id") or 0, "pad_token_id", file, least=0)
    first_position = 0 if family == "bert" else padding + 1  # RoBERTa counts positions from behind the padding id
    sentence = _json(directory / "sentence_bert_config.json", {})
    limits = sentence.get("max_seq_length"), _json(directory / "tokenizer_config.json", {}).get("model_max_length")
    room = _number(config.get("max_position_embeddings"), "max_position_embeddings", file) - first_position
    return ModelFiles(
        directory=directory,
        family=family,
        pooling=pooling,
        normalise=normalise,
        dimensions=_number(config.get("hidden_size"), "hidden_size", file),
        max_tokens=min(room, *(_limit(value, room) for value in limits)),
        first_position=first_position,
        filling_id=padding,
        lower_case=bool(sentence.get("do_lower_case")),
        stand_in=(directory / "STAND_IN.json").is_file(),
    )


def content_hash(directory: Path, *recipe: str, digest_of: Callable[[Path], bytes] | None = None) -> str:
    """SHA-256 over everything a converted model depends on: weights, settings, tokenizer, and `recipe`.

    `digest_of` is `file_digest`, or something that remembers its results.
    """
    digest = hashlib.sha256("\0".join(recipe).encode())
    kinds = (".json", ".txt", ".safetensors", ".bin", ".model")
    for path in sorted(path for path in Path(directory).rglob("*") if path.suffix in kinds and path.is_file()):
        digest.update(f"\0{path.relative_to(directory).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update((digest_of or file_digest)(path))
    return digest.hexdigest()


def file_digest(path: Path) -> bytes:
    """SHA-256 of one file, read in pieces: weights need not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.digest()


def _modules(directory: Path) -> tuple[Pooling, bool]:
    """Pooling, and whether vectors are normalised, from modules.json; a bare transformer means the mean, as in ST."""
    modules = _json(directory / "modules.json", None, kind=list)
    if modules is None:
        return "mean", False
    pooling: Pooling | None = None
    normalise = False
    for module in modules:
        if not isinstance(module, dict) or not isinstance(module.get("type"), str):
            raise ModelSourceError(f"{directory / 'modules.json'}: a module without a type: {module!r:.80}")
        kind = module["type"].rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling(_json(directory / str(module.get("path") or "") / "config.json"))
        elif kind == "Normalize":
            normalise = True
        elif kind != "Transformer":
            raise QuantizeError(f"a module of type {kind!r} behind the encoder is not supported", hint=FALL_BACK)
    if pooling is None:
        raise QuantizeError(f"{directory / 'modules.json'} names no pooling", hint=FALL_BACK)
    return pooling, normalise


def _pooling(config: dict[str, Any]) -> Pooling:
    mode = config.get("pooling_mode")  # newer files name it, older ones set one flag of several
    names = {"cls": "cls", "mean": "mean", "cls_token": "cls", "mean_tokens": "mean"}
    flags = [key.removeprefix("pooling_mode_") for key, on in config.items() if key.startswith("pooling_mode_") and on]
    chosen = [mode] if isinstance(mode, str) else flags
    match [names.get(name) for name in chosen]:
        case ["cls"]:
            return "cls"
        case ["mean"]:
            return "mean"
        case _:
            raise QuantizeError(
                f"pooling by {' and '.join(map(str, chosen)) or 'nothing'} is not supported", hint=FALL_BACK
            )


def _limit(value: Any, room: int) -> int:
    """A length limit as given, or `room` where there is none: a tokenizer without one says 10^30, or null."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < 1_000_000 else room


def _number(value: Any, key: str, file: Path, *, least: int = 1) -> int:
    if not isinstance(value, int) or value < least:
        raise ModelSourceError(f"{file}: {key} is {value!r}, expected a whole number from {least}")
    return value


_REQUIRED: Any = object()


def _json(path: Path, default: Any = _REQUIRED, *, kind: type = dict) -> Any:
    """The content of `path`, which must be of `kind`, or `default` where there is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not _REQUIRED:
            return default
        raise ModelSourceError(f"{path} is missing", hint="give a complete sentence-transformers directory") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelSourceError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, kind):
        raise ModelSourceError(f"{path} holds no JSON {'list' if kind is list else 'object'}")
    return content
