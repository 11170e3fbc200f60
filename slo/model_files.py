"""
What a model directory says about itself, and whether its files are whole.

Reads the layout that Hugging Face and sentence-transformers share. Weights are never loaded: a safetensors file
names its own length in its first bytes, so a truncated download is found in milliseconds.

Under which names a checkpoint holds its weights is read as well, without loading them: DDP and torch.compile put a
prefix before every name. Our engine takes it off; sentence-transformers finds none of the weights it looks for, puts
random numbers in their place, and serves.

What a launch must know of any model is here (`read_model`); what our engine must know of one that it is to compute is
in `slo/serve/engine/encoder_files.py`, which reads with the functions of this module.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickletools
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slo.errors import ModelSourceError

STAND_IN_LABEL = "stand-in weights: timings are representative, embeddings are not"
EMBEDDING_TABLE = "embeddings.word_embeddings.weight"
HEADER_LIMIT_BYTES = 100 * 2**20  # of a safetensors header, as the format's own reader has it
TOKENIZERS = ("tokenizer.json", "vocab.txt", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model")
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
}
WRAPPERS = ("module.", "_orig_mod.")
PICKLE_LIMIT_BYTES = 64 * 2**20  # names and shapes only; the numbers lie beside it
MARKER = "STAND_IN.json"


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A complete model directory and what its files promise. `weight_bytes` is the size on disk.

    `fp32_bytes` is what the same weights take in fp32, whatever precision they are stored in.
    """

    directory: Path
    architecture: str
    dimension: int
    max_tokens: int
    pooling: str
    normalizes: bool
    weight_bytes: int
    fp32_bytes: int
    stand_in: bool

    @property
    def label(self) -> str:
        """How the weights must be called wherever the model is named: empty for trained ones."""
        return STAND_IN_LABEL if self.stand_in else ""


def read_model(directory: Path) -> ModelFiles:
    """Check the files in `directory` and read the model's dimensions from them.

    Raises `ModelSourceError` naming the file that is missing, truncated or contradictory.
    """
    directory = directory.expanduser().absolute()
    if not directory.is_dir():
        raise ModelSourceError(
            f"{directory}: no such model directory", hint="give the folder that holds config.json with --model-path"
        )
    config = read_json(directory / "config.json")
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise ModelSourceError(f"{directory}: no tokenizer ({', '.join(TOKENIZERS[:2])} …)", hint=_AGAIN)
    weights = weight_files(directory)
    hidden = whole_number(config.get("hidden_size"), "hidden_size", directory / "config.json")
    fp32_bytes = sum(_check_whole(path, hidden=hidden) for path in weights)
    pooling, normalizes, dimension = _modules(directory, hidden)
    return ModelFiles(
        directory=directory,
        architecture=str(config.get("model_type") or "unknown"),
        dimension=dimension,
        max_tokens=_max_tokens(directory, config),
        pooling=pooling,
        normalizes=normalizes,
        weight_bytes=sum(path.stat().st_size for path in weights),
        fp32_bytes=fp32_bytes,
        stand_in=is_standin(directory),
    )


_AGAIN = "copy or download the model again"


def weight_files(directory: Path) -> list[Path]:
    """The weight files that a loader would open: safetensors first, shards by their index."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (directory / name).is_file():
            return [directory / name]
        index = directory / f"{name}.index.json"
        if index.is_file():
            table = read_json(index).get("weight_map")
            if not isinstance(table, dict) or not table:
                raise ModelSourceError(f"{index}: lists no weights", hint=_AGAIN)
            shards = [directory / shard for shard in sorted({str(name) for name in table.values()})]
            for shard in shards:
                if not shard.is_file():
                    raise ModelSourceError(f"{shard}: missing, though {index.name} lists it", hint=_AGAIN)
            return shards
    raise ModelSourceError(f"{directory}: no weights (model.safetensors or pytorch_model.bin)", hint=_AGAIN)


def _check_whole(path: Path, *, hidden: int) -> int:
    """Compare the file's size with what its own header promises, and its embedding table with `config.json`.

    Returns what its weights take in fp32, as far as the file tells.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise ModelSourceError(f"{path}: a Git LFS pointer, not the weights", hint="run `git lfs pull` there")
        if path.suffix != ".safetensors":
            if start[:2] == b"PK" and not zipfile.is_zipfile(path):
                raise ModelSourceError(f"{path}: truncated: its closing index is missing", hint=_AGAIN)
            return size
        length = int.from_bytes(start[:8], "little")
        if len(start) < 8 or length > HEADER_LIMIT_BYTES:
            raise ModelSourceError(f"{path}: not a safetensors file", hint=_AGAIN)
        file.seek(8)
        header = file.read(length)
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        values = sum(math.prod(map(int, entry["shape"])) for entry in tensors.values())
        widths = {name: entry["shape"][-1] for name, entry in tensors.items() if name.endswith(EMBEDDING_TABLE)}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelSourceError(f"{path}: its header cannot be read; truncated or damaged", hint=_AGAIN) from error
    if size != expected:
        raise ModelSourceError(
            f"{path}: {'truncated' if size < expected else 'damaged'}: {size:,} bytes instead of {expected:,}",
            hint=_AGAIN,
        )
    for width in widths.values():
        if width != hidden:
            raise ModelSourceError(
                f"{path}: wrong dimension: the weights are {width} wide, config.json says {hidden}",
                hint="the files belong to different models; " + _AGAIN,
            )
    return 4 * values


def _modules(directory: Path, hidden: int) -> tuple[str, bool, int]:
    """Pooling, whether vectors leave normalised, and their dimension, as sentence-transformers would build it."""
    path = directory / "modules.json"
    if not path.is_file():
        return "mean", False, hidden  # its own default for a bare transformer
    pooling, normalizes, dimension = "mean", False, hidden
    modules = read_json(path, kind=list)
    for module in modules:
        if not isinstance(module, dict) or not isinstance(module.get("type"), str):
            raise ModelSourceError(f"{path}: a module without a type: {module!r:.80}", hint=_AGAIN)
        kind, folder = module["type"].rpartition(".")[2], directory / str(module.get("path") or "")
        if kind == "Pooling":
            settings = read_json(folder / "config.json")
            modes = [name for key, name in POOLINGS.items() if settings.get(key)]
            pooling = "+".join(modes) or str(settings.get("pooling_mode", "mean"))
            dimension = hidden * max(1, len(modes))
        elif kind == "Dense":
            dimension = whole_number(
                read_json(folder / "config.json").get("out_features"), "out_features", folder / "config.json"
            )
        elif kind == "Normalize":
            normalizes = True
    return pooling, normalizes, dimension


def _max_tokens(directory: Path, config: dict[str, Any]) -> int:
    """Longest input: what sentence-transformers was told, else the tokenizer's limit, else the position table."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        path = directory / name
        value = read_json(path).get(key) if path.is_file() else None
        # A tokenizer without a limit says 10^30.
        if isinstance(value, int) and 0 < value <= 10**7:
            return value
    return whole_number(config.get("max_position_embeddings"), "max_position_embeddings", directory / "config.json")


def whole_number(value: Any, key: str, path: Path, *, least: int = 1) -> int:
    """`value`, which `path` gives for `key`. Raises `ModelSourceError` for anything but a whole number from `least`."""
    if not isinstance(value, int) or value < least:
        raise ModelSourceError(f"{path}: {key} is {value!r}, expected a whole number from {least}", hint=_AGAIN)
    return value


_REQUIRED: Any = object()


def read_json(path: Path, default: Any = _REQUIRED, *, kind: type = dict) -> Any:
    """The content of `path`, which must be of `kind`, or `default` where there is no such file.

    Raises `ModelSourceError`.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if default is not _REQUIRED:
            return default
        raise ModelSourceError(f"{path}: missing", hint=_AGAIN) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelSourceError(f"{path}: cannot be read: {error}", hint=_AGAIN) from error
    if not isinstance(data, kind):
        raise ModelSourceError(f"{path}: holds no JSON {'list' if kind is list else 'object'}", hint=_AGAIN)
    return data


def require_plain(directory: Path) -> None:
    """Raise `ModelSourceError` when every weight of the model in `directory` has a wrapper's prefix."""
    for path in weight_files(directory):
        names = list(_names(path))
        wrapper = next((prefix for prefix in WRAPPERS if names and all(name.startswith(prefix) for name in names)), "")
        if wrapper:
            raise ModelSourceError(
                f"{path}: the names of all weights begin with {wrapper!r}, as DDP or torch.compile leave them: "
                "sentence-transformers would serve random numbers instead",
                hint="save the model inside the wrapper; the engine openvino takes the prefix off by itself",
            )


def _names(path: Path) -> Iterator[str]:
    """The names in a safetensors header, or those in a torch file that end as weights' do."""
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        yield from (name for name in header if name != "__metadata__")
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.filename.endswith("/data.pkl") and entry.file_size <= PICKLE_LIMIT_BYTES:
                    strings = (value for _, value, _ in pickletools.genops(archive.read(entry)))
                    yield from (x for x in strings if isinstance(x, str) and x.endswith((".weight", ".bias")))


def is_standin(directory: Path) -> bool:
    """Tell whether the model in `directory` is a stand-in written by `write_standin`."""
    return (Path(directory) / MARKER).is_file()


def file_digest(path: Path) -> bytes:
    """SHA-256 of one file, read in pieces: weights need not fit into memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.digest()
