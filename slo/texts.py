"""
Chinese texts for probes and load: short (4 characters), medium (20) and long (50); documents of 128 to 512 tokens.

Texts never repeat, since a repeated text would measure a cache: the i-th text spells the number π(i), where
π is a seeded permutation, in words. So a day of load needs no memory of what was sent, and two runs with one
seed send the same bytes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

CLASSES: dict[str, int] = {"short": 4, "medium": 20, "long": 50}  # characters
SPECIAL_TOKENS = 2  # around each text
# Named by their tokens, since that is how documents are cut for indexing.
DOCUMENTS: dict[str, int] = {f"doc{tokens}": tokens - SPECIAL_TOKENS for tokens in (128, 256, 512)}
LENGTHS = CLASSES | DOCUMENTS

# The examples of the article that this project grew from, shown among the samples.
SEED_EXAMPLES: dict[str, str] = {
    "short": "你好世界",
    "medium": "今天天气真不错，适合出去散步和拍照片呢。",
    "long": "人工智能正在改变我们的生活方式，从语音助手到自动驾驶，它的应用越来越广泛，未来会更加普及和深入人心。",
}

_SUBJECTS = tuple("用户 客户 老师 学生 医生 工程师 分析师 司机 编辑 市民 经理 研究员 店员 游客 作者 法官".split())
_PLACES = tuple("在北京 在上海 在学校 在医院 在图书馆 在车站 在公司 在网上 在山里 在海边 在广州 在家里".split())
_TIMES = tuple("今天 昨天 上周 明年 早晨 深夜 最近 去年 春天 周末 刚才 平时".split())
_VERBS = tuple("查询 购买 讨论 学习 修理 设计 测试 发布 翻译 整理 评价 下载 预订 比较 记录 分享".split())
_OBJECTS = tuple(
    "手机 电脑 合同 论文 药品 机票 房屋 数据 模型 音乐 新闻 菜谱 汽车 股票 课程 地图 保险 相机 天气 历史".split()
)
_ADJECTIVES = tuple("便宜的 最新的 复杂的 安静的 重要的 有趣的 进口的 破旧的 免费的 热门的 智能的 传统的".split())
_WORDS = tuple(word for word in (*_SUBJECTS, *_TIMES, *_VERBS, *_OBJECTS) if len(word) == 2)
_LINKS = tuple("因为 但是 所以 然后 而且 虽然 如果 同时 不过 因此".split())
_FRAME = (_TIMES, _SUBJECTS, _PLACES, _VERBS, _ADJECTIVES, _OBJECTS)
_COMMON = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都"
    "两体制机当使点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想"
    "已通并提直题党程展五果料象员革位入常文总次品式活设及管特件长求老头基资边流路级少图山统接知较将组见计别她手角期根论运农指几九区强放决西被干做必战先回则任取据处理"
)


@dataclass(frozen=True)
class Text:
    """One text and the length class that it belongs to."""

    value: str
    length_class: str


def texts(length_class: str, seed: int) -> Iterator[str]:
    """Unique texts of exactly `LENGTHS[length_class]` characters; the same for the same seed.

    There are 88 million of medium and long ones, and 4·10⁹ short ones (the first 4 million of them begin with a
    word). Texts of different seeds seldom meet, so that a probe with a new seed does not measure a cache either.
    """
    length = LENGTHS[length_class]
    source = random.Random(f"{seed}/{length_class}")
    if length < 8:
        return chain(_phrases(source), _characters(source, length))
    return (_sentences(source, parts, length) for parts in _spelled(source, (*_FRAME, _LINKS)))


def mix(seed: int, weights: dict[str, float] | None = None) -> Iterator[Text]:
    """Unique texts of all classes, drawn by weight (default: a third each)."""
    weights = weights or dict.fromkeys(CLASSES, 1.0)
    source = random.Random(f"{seed}/mix")
    streams = {name: texts(name, seed) for name in weights}
    names, odds = list(weights), list(weights.values())
    while True:
        name = source.choices(names, odds)[0]
        yield Text(next(streams[name]), name)


def class_of(length: int) -> str:
    """The class whose number of characters is nearest in ratio: up to 8 short, up to 31 medium, up to 79 long, …"""
    for name, limit in (("short", 8), ("medium", 31), ("long", 79), ("doc128", 178), ("doc256", 359)):
        if length <= limit:
            return name
    return "doc512"


def _spelled(source: random.Random, alphabets: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """Every combination of one entry per alphabet, once each, in a seeded order (an affine permutation)."""
    size = math.prod(map(len, alphabets))
    factor = next(f for f in iter(lambda: source.randrange(size // 3, size), None) if math.gcd(f, size) == 1)
    offset = source.randrange(size)
    for index in range(size):
        number, parts = (factor * index + offset) % size, []
        for alphabet in alphabets:
            number, digit = divmod(number, len(alphabet))
            parts.append(alphabet[digit])
        yield parts


def _phrases(source: random.Random) -> Iterator[str]:
    """A word and two common characters: 机票天气. (Two words would be 3,700 texts: a cache soon holds them all.)"""
    common = tuple(dict.fromkeys(_COMMON))
    return ("".join(parts) for parts in _spelled(source, (_WORDS, common, common)))


def _characters(source: random.Random, length: int) -> Iterator[str]:
    """Common characters in any order, for when the phrases are used up."""
    words = frozenset(_WORDS)
    for parts in _spelled(source, (tuple(dict.fromkeys(_COMMON)),) * length):
        text = "".join(parts)
        if text[:2] not in words:
            yield text


def _sentences(source: random.Random, parts: list[str], length: int) -> str:
    """The frame that `parts` fill (at most 19 characters, so never cut), then filler up to `length`."""
    *frame, link = parts
    text = "".join(frame) + "，" + link
    while len(text) < length:
        text += "".join(source.choice(words) for words in _FRAME[1:]) + "，" + source.choice(_LINKS)
    return text[: length - 1].rstrip("，").ljust(length - 1, "了") + "。"
