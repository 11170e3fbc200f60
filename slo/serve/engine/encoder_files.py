"""
What a sentence-transformers directory says about itself: family, pooling, limits. Reads JSON only.

Read as sentence-transformers reads it, so that the vectors are the same. A model that this engine cannot serve raises
QuantizeError with what was met; the caller then launches it with Xinference's own sentence_transformers engine.

`Prompts` are what is put before a text before it is embedded, from the model's `config_sentence_transformers.json`. The
engine reads them, the front door applies them, so that the cache and the queue know each text as it is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slo.errors import ModelSourceError, QuantizeError
from slo.model_files import file_digest, is_standin, read_json, whole_number
from slo.model_names import OUR_ARCHITECTURES

ALWAYS = {"query": "", "document": ""}  # known to sentence-transformers in any case
Pooling = Literal["cls", "mean"]

FALL_BACK = "launch it with the engine sentence_transformers instead (--engine sentence_transformers)"
SENTENCE_SETTINGS = tuple(
    f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta")
)
# Settings of the transformer module that change what goes in or comes out; value: what is harmless.
PLAIN: Mapping[str, Any] = {
    "transformer_task": "feature-extraction", "model_args": {}, "model_kwargs": {}, "config_args": {},
    "config_kwargs": {}, "tokenizer_args": {}, "processor_kwargs": {}, "processing_kwargs": {}, "query_length": None,
    "document_length": None, "query_expansion": None, "tokenizer_name_or_path": None,
}  # fmt: skip
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Prompts:
    """Prefixes by name; `default` names the one that comes without being asked for."""

    texts: Mapping[str, str] = field(default_factory=lambda: dict(ALWAYS))
    default: str | None = None

    def prefix(self, prompt: str | None, name: str | None) -> str:
        """The prefix for a request: its own, else the one it names, else the default. Raises KeyError."""
        if prompt is not None:
            return prompt
        if name is not None:
            return self.texts[name]
        return "" if self.default is None else self.texts[self.default]

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"texts": dict(self.texts), "default": self.default}

    @staticmethod
    def from_json(data: Any) -> Prompts:
        """What an engine says of itself; no prefixes where it says nothing."""
        return Prompts(dict(data["texts"]), data["default"]) if isinstance(data, dict) else Prompts()


@dataclass(frozen=True, kw_only=True)
class EncoderFiles:
    """A model as its own files describe it.

    `max_tokens` counts the special tokens; a longer text is truncated there, as sentence-transformers does. `prompts`
    are what may be put before a text; `tidies_decoded` is transformers' clean_up_tokenization_spaces.
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
    prompts: Prompts = field(default_factory=Prompts)
    tidies_decoded: bool = False


def read_model(directory: Path) -> EncoderFiles:
    """Read and check a model directory.

    Raises ModelSourceError when files are missing or broken, QuantizeError when the model is of another kind.
    """
    directory = Path(directory)
    file = directory / "config.json"
    config = read_json(file)
    family = str(config.get("model_type"))
    if family not in OUR_ARCHITECTURES:
        ours = ", ".join(OUR_ARCHITECTURES)
        raise QuantizeError(f"models of type {family!r} are not supported, only {ours}", hint=FALL_BACK)
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        raise QuantizeError("only encoders with absolute positions are supported", hint=FALL_BACK)
    if not any((directory / name).is_file() for name in WEIGHTS):
        raise ModelSourceError(f"{directory} holds no weights: none of {', '.join(WEIGHTS)}")
    modules = read_json(directory / "modules.json", None, kind=list)
    pooling, normalise, sentence, prompts = _bare() if modules is None else _described(directory, modules)
    tokenizer = read_json(directory / "tokenizer_config.json", {})
    padding = whole_number(config.get("pad_token_id") or 0, "pad_token_id", file, least=0)
    first_position = 0 if family == "bert" else padding + 1  # RoBERTa counts positions from behind the padding id
    room = whole_number(config.get("max_position_embeddings"), "max_position_embeddings", file) - first_position
    limit = sentence.get("max_seq_length") or tokenizer.get("model_max_length")
    return EncoderFiles(
        directory=directory,
        family=family,
        pooling=pooling,
        normalise=normalise,
        dimensions=whole_number(config.get("hidden_size"), "hidden_size", file),
        max_tokens=min(room, _limit(limit, room)),
        first_position=first_position,
        filling_id=padding,
        lower_case=bool(sentence.get("do_lower_case")),
        stand_in=is_standin(directory),
        prompts=prompts,
        tidies_decoded=bool(tokenizer.get("clean_up_tokenization_spaces")),
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


def _bare() -> tuple[Pooling, bool, dict[str, Any], Prompts]:
    """What sentence-transformers assumes of a directory without modules.json; it then reads none of its own files."""
    return "mean", False, {}, Prompts()


def _described(directory: Path, modules: list[Any]) -> tuple[Pooling, bool, dict[str, Any], Prompts]:
    return *_modules(directory, modules), _sentence_settings(directory), _prompts(directory)


def _modules(directory: Path, modules: list[Any]) -> tuple[Pooling, bool]:
    """Pooling, and whether vectors are normalised, from the content of modules.json."""
    for module in modules:
        if not isinstance(module, dict) or not isinstance(module.get("type"), str):
            raise ModelSourceError(f"{directory / 'modules.json'}: a module without a type: {module!r:.80}")
    kinds = [module["type"] for module in modules]
    paths = [str(module.get("path") or "") for module in modules]
    names = [kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind for kind in kinds]
    if names[:2] != ["Transformer", "Pooling"] or set(names[2:]) - {"Normalize"}:
        raise QuantizeError(
            f"only Transformer, Pooling and Normalize in this order are supported, not {', '.join(names)}",
            hint=FALL_BACK,
        )
    if paths[0]:
        raise QuantizeError(f"the transformer lies in the folder {paths[0]!r}", hint=FALL_BACK)
    return _pooling(read_json(directory / paths[1] / "config.json")), len(names) > 2


def _sentence_settings(directory: Path) -> dict[str, Any]:
    """What sentence-transformers was told about the transformer module: the first file of several names."""
    files: list[dict[str, Any]] = [read_json(directory / name, {}) for name in SENTENCE_SETTINGS]
    found = next((content for content in files if content), {})
    odd = [name for name, plain in PLAIN.items() if found.get(name) not in (None, plain)]
    if odd:
        raise QuantizeError(f"the transformer's setting {', '.join(odd)} is not supported", hint=FALL_BACK)
    return dict(found)


def _prompts(directory: Path) -> Prompts:
    path = directory / "config_sentence_transformers.json"
    settings = read_json(path, {})
    if settings.get("model_type") not in (None, "SentenceTransformer"):
        raise QuantizeError(f"models of the kind {settings['model_type']!r} are not supported", hint=FALL_BACK)
    named = settings.get("prompts") or {}
    if not isinstance(named, dict):
        raise ModelSourceError(f"{path}: prompts is {named!r:.80}, expected texts by name")
    texts = ALWAYS | {str(name): str(text or "") for name, text in named.items()}
    default = settings.get("default_prompt_name")
    if default is not None and default not in texts:
        raise ModelSourceError(f"{path}: default_prompt_name is {default!r}, which is none of the prompts")
    return Prompts(texts, default)


def _pooling(config: dict[str, Any]) -> Pooling:
    if config.get("include_prompt") is False:
        raise QuantizeError("a pooling that leaves the prompt out is not supported", hint=FALL_BACK)
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
