"""Relatives of BERT that count positions differently, against sentence-transformers itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from slo.serve.engine.calibration import calibration_texts
from slo.serve.engine.loading import load

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]  # ids 0 to 4, as RoBERTa's files have them
TEXTS = ["你好", "今天天气真不错，适合出去散步", "embedding models serve many texts", "长" * 90, "a"]


def _write_tokenizer(directory: Path, model: models.Model, trainer: trainers.Trainer) -> int:
    """A tokenizer trained on a few sentences; the size of its vocabulary."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator([*calibration_texts(english=True)[:200], *TEXTS], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=64,
    ).save_pretrained(str(directory))  # fmt: skip
    return int(tokenizer.get_vocab_size())


def write_relative(directory: Path, family: str, pooling: str) -> SentenceTransformer:
    """A small model of `family` with random weights, saved in `directory` as sentence-transformers saves it."""
    plain = directory / "plain"
    shape = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
        "max_position_embeddings": 66, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(7)
    if family == "roberta":
        size = _write_tokenizer(plain, models.BPE(unk_token="<unk>"), trainers.BpeTrainer(special_tokens=SPECIAL))
        RobertaModel(RobertaConfig(vocab_size=size, **shape)).save_pretrained(str(plain))
    else:
        trainer = trainers.UnigramTrainer(vocab_size=900, special_tokens=SPECIAL, unk_token="<unk>")
        size = _write_tokenizer(plain, models.Unigram(), trainer)
        XLMRobertaModel(XLMRobertaConfig(vocab_size=size, **shape)).save_pretrained(str(plain))
    made = SentenceTransformer(
        modules=[Transformer(str(plain)), Pooling(64, pooling_mode=pooling), Normalize()], device="cpu"
    )
    made.save(str(directory / "model"))
    return made


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_a_relative_of_bert_gives_the_vectors_of_sentence_transformers(
    tmp_path: Path, family: str, pooling: str
) -> None:
    expected = write_relative(tmp_path, family, pooling).encode(TEXTS)
    loaded = load(tmp_path / "model", tmp_path / "cache", precision="fp32", pass_tokens=64)
    assert loaded.runtime.files.family == family
    assert loaded.runtime.files.first_position == 2
    np.testing.assert_allclose(loaded.runtime.embed(TEXTS), expected, atol=2e-6)
    alone = np.concatenate([loaded.runtime.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=2e-6)
