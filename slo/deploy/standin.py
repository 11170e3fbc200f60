"""
The stand-in model: gte-base-zh in every respect but meaning.

Same architecture (BERT-base, CLS pooling, normalised), same vocabulary size, one token per Chinese character, so
that every latency measured on it is true. Its weights come from a fixed seed. The first layer attends uniformly and
carries the token embeddings to the CLS row, small random blocks follow: texts that share characters therefore score
closer than texts that share none, and a similarity page behaves sensibly. It knows no synonyms.

Nobody may mistake it for a trained model: `STAND_IN.json` lies beside the weights and `is_standin` reads it.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from slo.errors import ModelSourceError
from slo.files import fresh_tree
from slo.model_files import MARKER, is_standin

GENERATOR_VERSION = 1  # raise on any change of the bytes below, so that cached quantised copies are made anew
SEED = 20240715
VOCABULARY_SIZE = 21128
MAX_TOKENS = 512

Size = Literal["full", "tiny"]
Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The dimensions that the two sizes differ in."""

    layers: int
    hidden: int
    heads: int

    @property
    def intermediate(self) -> int:
        return 4 * self.hidden


SHAPES: dict[Size, Shape] = {
    "full": Shape(layers=12, hidden=768, heads=12),
    "tiny": Shape(layers=2, hidden=128, heads=2),
}


def write_standin(directory: Path, *, size: Size = "full") -> None:
    """Write the stand-in to `directory`: all of it or nothing, the same bytes on every call.

    An older stand-in there is replaced; anything else there raises ModelSourceError.
    """
    directory = Path(directory).absolute()
    if directory.exists() and not is_standin(directory) and (not directory.is_dir() or any(directory.iterdir())):
        raise ModelSourceError(
            f"{directory} exists and is not a stand-in model; it is left as it is",
            hint="give another directory, or remove this one yourself",
        )
    shape = SHAPES[size]
    directory.parent.mkdir(parents=True, exist_ok=True)
    with fresh_tree(directory) as fresh:
        for name, text in _texts(shape, size).items():
            path = fresh / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        save_file(_weights(shape), fresh / "model.safetensors", metadata={"format": "pt"})
        (fresh / "model.safetensors").chmod(0o644)  # temporary files are private; a model is not


def vocabulary() -> list[str]:
    """All tokens by id: the special ones where BERT-base-Chinese has them, letters and pairs, then single characters.

    Chinese characters come in order of use: GB 2312 (simplified), Big5 (traditional), the rest of Unicode's main block.
    """
    special = ["[PAD]", *(f"[unused{n}]" for n in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>", "<T>"]
    letters = string.ascii_lowercase
    pairs = [a + b for a in letters for b in letters]
    pieces = [*string.digits, *letters, *pairs]
    tokens = dict.fromkeys(special)
    tokens |= dict.fromkeys([*string.punctuation, *"，。、；：？！“”‘’（）《》〈〉【】「」『』〔〕…—～·￥％＋－＝"])
    tokens |= dict.fromkeys([*pieces, *(f"##{piece}" for piece in pieces)])
    tokens |= dict.fromkeys([*_ideographs("gb2312"), *_ideographs("big5"), *map(chr, range(0x4E00, 0xA000))])
    return list(tokens)[:VOCABULARY_SIZE]


def _ideographs(codec: str) -> list[str]:
    """Chinese characters of a two-byte encoding in its own order, the commonest first."""
    found = []
    for high in range(0xA1, 0xFF):
        for low in range(0x40, 0xFF):
            character = bytes((high, low)).decode(codec, errors="ignore")
            if len(character) == 1 and "\u4e00" <= character <= "\u9fff":
                found.append(character)
    return found


def _weights(shape: Shape) -> Tensors:
    """Draw every tensor in a fixed order from one generator. No linear algebra: that may round by machine."""
    random = np.random.default_rng(SEED)
    hidden, wide = shape.hidden, shape.intermediate
    tensors: Tensors = {}

    def normal(name: str, *dims: int, std: float, mean: float = 0.0) -> None:
        values = random.standard_normal(dims, dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        tensors[name] = values

    def linear(name: str, rows: int, columns: int, gain: float) -> None:
        # `gain` is the growth of a typical vector's length, whatever the width
        normal(f"{name}.weight", rows, columns, std=gain / columns**0.5)
        normal(f"{name}.bias", rows, std=0.01)

    def norm(name: str) -> None:
        normal(f"{name}.weight", hidden, std=0.05, mean=0.95)
        normal(f"{name}.bias", hidden, std=0.02)

    normal("embeddings.word_embeddings.weight", VOCABULARY_SIZE, hidden, std=0.04)
    normal("embeddings.position_embeddings.weight", MAX_TOKENS, hidden, std=0.008)
    normal("embeddings.token_type_embeddings.weight", 2, hidden, std=0.004)
    norm("embeddings.LayerNorm")
    for layer in range(shape.layers):
        first = layer == 0
        block = f"encoder.layer.{layer}"
        looking = 0.25 if first else 1.0  # flat attention below, mild attention above
        carrying = 3.0 if first else 0.55  # the mean of n tokens is √n shorter than the CLS row that it must outweigh
        linear(f"{block}.attention.self.query", hidden, hidden, looking)
        linear(f"{block}.attention.self.key", hidden, hidden, looking)
        linear(f"{block}.attention.self.value", hidden, hidden, carrying)
        linear(f"{block}.attention.output.dense", hidden, hidden, carrying)
        norm(f"{block}.attention.output.LayerNorm")
        linear(f"{block}.intermediate.dense", wide, hidden, 0.8)
        linear(f"{block}.output.dense", hidden, wide, 0.3)
        norm(f"{block}.output.LayerNorm")
    linear("pooler.dense", hidden, hidden, 0.55)  # unused by CLS pooling; its absence would be warned about
    return tensors


def _texts(shape: Shape, size: Size) -> dict[str, str]:
    """Every file but the weights: relative path → content."""
    tokens = vocabulary()
    special = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
    special_tokens = {f"{role}_token": token for role, token in special.items()}
    documents: dict[str, object] = {
        MARKER: {
            "what": "stand-in weights from a fixed seed: timings are representative, embeddings are not",
            "seed": SEED,
            "size": size,
            "generator_version": GENERATOR_VERSION,
        },
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "attention_probs_dropout_prob": 0.1,
            "classifier_dropout": None,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "hidden_size": shape.hidden,
            "initializer_range": 0.02,
            "intermediate_size": shape.intermediate,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": MAX_TOKENS,
            "num_attention_heads": shape.heads,
            "num_hidden_layers": shape.layers,
            "pad_token_id": 0,
            "torch_dtype": "float32",
            "type_vocab_size": 2,
            "vocab_size": VOCABULARY_SIZE,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.hidden,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        "sentence_bert_config.json": {"max_seq_length": MAX_TOKENS, "do_lower_case": False},
        "special_tokens_map.json": special_tokens,
        "tokenizer_config.json": {
            **special_tokens,
            "do_lower_case": True,
            "model_max_length": MAX_TOKENS,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "tokenizer_class": "BertTokenizer",
        },
        "tokenizer.json": _tokenizer(tokens, list(special.values())),
    }
    texts = {name: json.dumps(content, ensure_ascii=False, indent=1) + "\n" for name, content in documents.items()}
    return texts | {"vocab.txt": "".join(f"{token}\n" for token in tokens)}


def _tokenizer(tokens: list[str], special: list[str]) -> dict[str, object]:
    """The `tokenizers` library's own description of BERT's WordPiece."""
    ids = {token: number for number, token in enumerate(tokens)}

    def piece(kind: str, name: str, segment: int) -> dict[str, object]:
        return {kind: {"id": name, "type_id": segment}}

    start, end = piece("SpecialToken", "[CLS]", 0), piece("SpecialToken", "[SEP]", 0)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": ids[token], "content": token, **flags} for token in sorted(special, key=ids.__getitem__)
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, piece("Sequence", "A", 0), end],
            "pair": [
                start,
                piece("Sequence", "A", 0),
                end,
                piece("Sequence", "B", 1),
                piece("SpecialToken", "[SEP]", 1),
            ],
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": ids,
        },
    }
