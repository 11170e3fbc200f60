"""The stand-in model is a loadable BERT whose similarities follow shared characters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from slo.deploy.standin import VOCABULARY_SIZE, Size, vocabulary, write_standin
from slo.errors import ModelSourceError
from slo.model_files import MARKER, is_standin


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_standin(directory, size="tiny")
    return directory


def digest(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def random_text(random: np.random.Generator, length: int) -> str:
    common = [token for token in vocabulary()[1500:5000] if "\u4e00" <= token <= "\u9fff"]
    return "".join(random.choice(common, size=length))


def check_related_are_closer(directory: Path, pairs: int) -> None:
    model = SentenceTransformer(str(directory), device="cpu")
    random = np.random.default_rng(7)
    triples = []
    for _ in range(pairs):
        length = int(random.integers(8, 41))
        text, other = random_text(random, length), random_text(random, length)
        kept = length // 2
        triples.append((text, text[:kept] + random_text(random, length - kept), other))
    vectors = model.encode([text for triple in triples for text in triple], show_progress_bar=False)
    anchor, related, unrelated = np.asarray(vectors).reshape(pairs, 3, -1).transpose(1, 0, 2)
    near, far = (anchor * related).sum(1), (anchor * unrelated).sum(1)
    assert (near > far).mean() >= 0.99
    assert near.mean() - far.mean() > 0.15
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_vocabulary_has_the_size_and_special_ids_of_bert_base_chinese() -> None:
    tokens = vocabulary()
    assert len(tokens) == len(set(tokens)) == VOCABULARY_SIZE
    ids = {token: number for number, token in enumerate(tokens)}
    assert [ids[t] for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")] == [0, 100, 101, 102, 103]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param("今天天气怎么样", 7, id="simplified"),
        pytest.param("臺灣學習機器", 6, id="traditional"),
        pytest.param("你好，世界！", 6, id="punctuation counts as one"),
        pytest.param("", 0, id="empty"),
        pytest.param("GPU", 2, id="letters go in pairs"),
    ],
)
def test_a_chinese_character_is_one_token(tiny: Path, text: str, tokens: int) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    encoding = tokenizer.encode(text)
    assert len(encoding.ids) == tokens + 2
    assert "[UNK]" not in encoding.tokens


def test_sentence_transformers_loads_it_with_cls_pooling_and_512_tokens(tiny: Path) -> None:
    model = SentenceTransformer(str(tiny), device="cpu")
    assert model.get_embedding_dimension() == 128
    assert model.max_seq_length == 512
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]


def test_texts_that_share_characters_are_closer_than_texts_that_share_none(tiny: Path) -> None:
    check_related_are_closer(tiny, pairs=200)


def test_a_second_generation_is_byte_identical_and_replaces_the_first(tmp_path: Path) -> None:
    write_standin(tmp_path / "model", size="tiny")
    first = digest(tmp_path / "model")
    write_standin(tmp_path / "model", size="tiny")
    assert digest(tmp_path / "model") == first
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_marker_names_seed_size_and_version(tiny: Path, tmp_path: Path) -> None:
    assert is_standin(tiny)
    assert not is_standin(tmp_path)
    marker = json.loads((tiny / MARKER).read_text(encoding="utf-8"))
    assert marker["size"] == "tiny"
    assert {"seed", "generator_version"} <= set(marker)


@pytest.mark.parametrize("size", [pytest.param("full", id="full"), pytest.param("tiny", id="tiny")])
def test_a_real_model_is_never_overwritten(tmp_path: Path, size: Size) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelSourceError, match="not a stand-in"):
        write_standin(tmp_path, size=size)
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == "{}"
