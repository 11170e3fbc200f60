"""Small models with random weights, in the shape of those that Xinference knows by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    ErnieConfig,
    ErnieModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from slo.model_names import ARCHITECTURES

TEXTS = ["你好", "今天天气真不错，适合出去散步", "embedding models serve many texts", "长" * 60, "a"]
MEAN = "e5 gte m3e text2vec multilingual"  # beginnings of names; the others take the first token
PLAIN = "m3e text2vec"  # whose vectors are left as they are
WIDTH = 32
BERT = {
    "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
}  # fmt: skip
QWEN = {**BERT, "num_key_value_heads": 2, "max_position_embeddings": 32768, "pad_token_id": 0, "eos_token_id": 0}
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # ids 0 to 4, as XLM-RoBERTa's files have them


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the files of a named model have in common with those of others. `pieces`: its tokenizer is XLM-RoBERTa's."""

    kind: str
    pooling: str
    normalises: bool
    pieces: bool
    max_tokens: int


def shape_of(name: str, max_tokens: int) -> Shape:
    """As its makers saved it."""
    kind = ARCHITECTURES[name]
    mean = name.startswith(tuple(MEAN.split()))
    return Shape(
        kind=kind,
        pooling="lasttoken" if kind.startswith("qwen") else "mean" if mean else "cls",
        normalises=not name.startswith(tuple(PLAIN.split())),
        pieces=kind == "xlm-roberta" or name == "text2vec-base-multilingual",
        max_tokens=max_tokens,
    )


def write_named(directory: Path, name: str, *, max_tokens: int) -> SentenceTransformer:
    """The model `name` in small, in `directory`; as sentence-transformers runs it."""
    return write_shape(directory, shape_of(name, max_tokens))


def write_shape(directory: Path, shape: Shape) -> SentenceTransformer:
    """A small model of that shape, in `directory`; as sentence-transformers runs it."""
    plain = directory.parent / f"{directory.name} plain"
    plain.mkdir(parents=True)
    torch.manual_seed(7)
    kind, max_tokens = shape.kind, shape.max_tokens
    prompts: dict[str, str] = {}
    if kind.startswith("qwen"):
        size = _byte_tokenizer(plain)
        shaped: Any = (
            Qwen3Model(Qwen3Config(vocab_size=size, head_dim=8, **QWEN)) if kind == "qwen3"
            else Qwen2Model(Qwen2Config(vocab_size=size, **QWEN))
        )  # fmt: skip
        prompts = {"query": "Instruct: find passages\nQuery:", "document": ""}
    else:
        size = _piece_tokenizer(plain, max_tokens) if shape.pieces else _character_tokenizer(plain, max_tokens)
        if kind == "xlm-roberta":
            shaped = XLMRobertaModel(
                XLMRobertaConfig(vocab_size=max(size, 128), max_position_embeddings=max_tokens + 2, type_vocab_size=1,
                                 pad_token_id=1, bos_token_id=0, eos_token_id=2, **BERT)
            )  # fmt: skip
        elif kind == "ernie":
            shaped = ErnieModel(ErnieConfig(vocab_size=max(size, 128), max_position_embeddings=2048, **BERT))
        else:
            shaped = BertModel(BertConfig(vocab_size=max(size, 128), max_position_embeddings=512, **BERT))
    shaped.save_pretrained(str(plain))
    modules: list[Any] = [Transformer(str(plain)), Pooling(WIDTH, pooling_mode=shape.pooling)]
    if shape.normalises:
        modules.append(Normalize())
    made = SentenceTransformer(modules=modules, device="cpu", prompts=prompts or None)
    made.max_seq_length = max_tokens
    made.save(str(directory))
    return made


def _character_tokenizer(directory: Path, max_tokens: int) -> int:
    words = sorted({*"".join(TEXTS), *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")} - {" "})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (directory / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(str(directory / "vocab.txt"), model_max_length=max_tokens).save_pretrained(str(directory))
    return len(vocabulary)


def _piece_tokenizer(directory: Path, max_tokens: int) -> int:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=max_tokens,
    ).save_pretrained(str(directory))  # fmt: skip
    return int(tokenizer.get_vocab_size())


def _byte_tokenizer(directory: Path) -> int:
    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, 0)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token=end, model_max_length=32768
    ).save_pretrained(str(directory))
    return int(tokenizer.get_vocab_size())
