"""
Does the model answer as an embedding model should, and how fast?

Correct means: the promised dimension, finite values, unit length if the model normalises, and related texts clearly
closer than unrelated ones. The first verdict comes from `PROBES` requests of one client: the fewest that can prove an
objective of P95 at 95 % confidence, plus one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from slo.client import EmbeddingsClient, cosine
from slo.errors import VerifyError
from slo.measure import one_by_one
from slo.objective import Objective
from slo.records import Summary, summarize
from slo.texts import mix

PROBES = 60
WARMUP = 12
NORM_TOLERANCE = 1e-2  # int8 and float16 answers included; a model that forgets to normalise is off by far more
PROBE_SEED = 60
# What related texts must be closer by. Random weights show 0.06 at most, from the characters that the texts share; the
# narrowest trained model that was seen (multilingual-e5-small) 0.17.
MARGIN = 0.08

# text, a related one, an unrelated one
TRIPLES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "zh": (
        ("今天天气怎么样", "今天的天气好不好", "公司发布第三季度财务报表"),
        ("如何重置登录密码", "忘记登录密码怎么重置", "苹果和香蕉都是水果"),
        ("这家餐厅的菜很好吃", "这家餐厅的饭菜味道很好", "火星探测器进入轨道"),
    ),
    "en": (
        ("how is the weather today", "is the weather good today", "the company filed its quarterly report"),
        ("how do I reset my password", "forgot my password, how to reset it", "apples and bananas are fruit"),
        ("the food in this restaurant is tasty", "this restaurant has very good food", "a probe entered Mars orbit"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the model's answers looked like. Similarities are means over the sample triples."""

    dimension: int
    related: float
    unrelated: float


def samples_for(language: Sequence[str]) -> str:
    """The language of the sample texts: the first one that we have any in, else English."""
    return next((name for name in language if name in TRIPLES), "en")


def verify(client: EmbeddingsClient, *, dimension: int, normalizes: bool, language: Sequence[str]) -> Verified:
    """Check one answer. Raises `VerifyError` with what is wrong with it."""
    samples = samples_for(language)
    texts = [text for triple in TRIPLES[samples] for text in triple]
    vectors = client.embed(texts, fresh=True).vectors  # finite and complete, or the client would have refused
    for vector in vectors:
        if len(vector) != dimension:
            raise VerifyError(
                f"{client.model}: wrong dimension: vectors of {len(vector)} numbers, its files promise {dimension}",
                hint="the server runs another model under this name; `--stop`, then launch again",
            )
        norm = math.hypot(*vector)
        if norm == 0 or (normalizes and abs(norm - 1) > NORM_TOLERANCE):
            raise VerifyError(f"{client.model}: a vector has length {norm:.4f} instead of 1")
    related = math.fsum(cosine(vectors[i], vectors[i + 1]) for i in range(0, len(vectors), 3)) * 3 / len(vectors)
    unrelated = math.fsum(cosine(vectors[i], vectors[i + 2]) for i in range(0, len(vectors), 3)) * 3 / len(vectors)
    if not related - unrelated >= MARGIN:
        raise VerifyError(
            f"{client.model}: related texts are hardly closer ({related:.3f}) than unrelated ones ({unrelated:.3f})",
            hint=f"are these trained weights? The sample texts are in {samples!r}; does model.language name what the "
            "model reads?",
        )
    return Verified(dimension=dimension, related=related, unrelated=unrelated)


def first_verdict(client: EmbeddingsClient, objective: Objective, *, dimension: int) -> Summary:
    """Figures over `PROBES` unique mixed texts of one client, after a warm-up that is not counted."""
    texts = mix(PROBE_SEED)
    one_by_one(client, islice(texts, WARMUP), dimension=dimension)
    return summarize("first", one_by_one(client, islice(texts, PROBES), dimension=dimension), objective)
