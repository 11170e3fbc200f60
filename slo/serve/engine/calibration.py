"""
Texts to quantise with, and others to judge the result by.

Both are made from seeds, so that a quantised model is reproducible; the two sets share no seed. Lengths follow what
users send: words, questions, sentences, paragraphs. A vocabulary without Chinese gets English ones.
"""

from __future__ import annotations

import random
from itertools import islice

from slo.texts import texts as chinese

CALIBRATION_SEED, HELD_OUT_SEED = 11, 8831
CALIBRATION_TEXTS, HELD_OUT_TEXTS = 240, 160

# English vocabularies know some of these characters; who knows Chinese knows all.
CHINESE_SAMPLE = "今天天气真不错，适合出去散步和拍照片呢。工程师在图书馆整理复杂的数据，研究员购买便宜的药品。"

_SUBJECTS = tuple(
    "the customer|our teacher|a young doctor|the engineer|my neighbour|the committee|a small company|the museum|"
    "every student|the river|this algorithm|the kitchen|a violin|the central bank|an old ship|the weather".split("|")
)
_VERBS = tuple(
    "compared|ordered|repaired|published|forgot|translated|measured|sold|designed|refused|painted|explained|"
    "downloaded|postponed|discovered|carried".split("|")
)
_OBJECTS = tuple(
    "two tickets to Lisbon|the quarterly report|an electric bicycle|the recipe for bread|a distant galaxy|"
    "the rental contract|his grandmother's letters|a faster processor|the tax return|some medicine|"
    "the football match|a database index|the concert hall|wild strawberries|the insurance policy|a new bridge".split(
        "|"
    )
)
_TAILS = tuple(
    "after the long winter|without reading it|because prices rose again|in front of the station|for 25 dollars|"
    "before anyone noticed|with great care|on a Sunday morning|despite the warning|near the harbour|"
    "while it was raining|as soon as the results arrived|at half past seven|once and for all".split("|")
)
_QUESTIONS = ("how do I find", "what is the price of", "who remembers", "is it safe to buy", "where can one see")


def calibration_texts(*, english: bool) -> list[str]:
    """The texts whose activations set the ranges of the int8 numbers."""
    return _mixture(CALIBRATION_SEED, CALIBRATION_TEXTS, english=english) + _odd(CALIBRATION_SEED)


def held_out_texts(*, english: bool) -> list[str]:
    """Texts for the fidelity gate. A third are variants of others: ranking near neighbours is what a model is for."""
    fresh = _mixture(HELD_OUT_SEED, HELD_OUT_TEXTS, english=english)
    source = random.Random(HELD_OUT_SEED + 1)
    variants = [_variant(text, other, source) for text, other in zip(fresh[::2], fresh[1::2], strict=True)]
    return fresh + variants + _odd(HELD_OUT_SEED)


def _mixture(seed: int, count: int, *, english: bool) -> list[str]:
    """`count` texts, the lengths interleaved."""
    source = random.Random(seed)
    if english:
        return [_english(source, clauses=(0, 1, 3, 9)[n % 4]) for n in range(count)]
    long = list(islice(chinese("long", seed), count))
    by_class = [
        list(islice(chinese("short", seed), count)),
        list(islice(chinese("medium", seed), count)),
        long,
        ["".join(long[start : start + 3]) for start in range(count)],
    ]
    return [by_class[n % 4][n] for n in range(count)]


def _english(source: random.Random, clauses: int) -> str:
    if clauses == 0:
        return f"{source.choice(_QUESTIONS)} {source.choice(_OBJECTS)}"
    parts = (
        f"{source.choice(_SUBJECTS)} {source.choice(_VERBS)} {source.choice(_OBJECTS)} {source.choice(_TAILS)}"
        for _ in range(clauses)
    )
    return "; ".join(parts).capitalize() + "."


def _odd(seed: int) -> list[str]:
    """What else arrives at a server: one character over and over, numbers, addresses, markup, nothing at all."""
    source = random.Random(seed)
    letters = "的了是在人有我他这中大来上国长" + "aeiorstn"
    repeated = [source.choice(letters) * source.choice((1, 12, 60, 240)) for _ in range(6)]
    numbers = [" ".join(str(source.randrange(10**6)) for _ in range(length)) for length in (1, 4, 12)]
    signs = ["".join(source.choice("，。！？…、；：《》()[]{}<>/\\|#@%&*+=~") for _ in range(n)) for n in (3, 25)]
    number = source.randrange(1000)
    return [
        *repeated,
        *numbers,
        *signs,
        f"https://example.org/item/{number}?page={number % 7}",
        f"SELECT name FROM t{number} WHERE id = {number};",  # noqa: S608 - a text, not a query
        f"订单号 {number}：GPU 服务器 2 台, ￥{number}.00 元/month",
        "",
    ]


def _variant(text: str, other: str, source: random.Random) -> str:
    """The text with one part replaced by as much of another."""
    start = source.randrange(len(text))
    end = source.randint(start, len(text))
    return text[:start] + other[start:end] + text[end:]
