from collections import Counter
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.texts import CLASSES, SEED_EXAMPLES, mix, texts


@pytest.mark.parametrize("name", CLASSES)
def test_twenty_thousand_texts_are_unique_and_of_exact_length(name: str) -> None:
    many = list(islice(texts(name, 5), 20_000))
    assert len(set(many)) == 20_000
    assert {len(text) for text in many} == {CLASSES[name]}


@given(st.integers(), st.sampled_from(sorted(CLASSES)))
@settings(max_examples=30)
def test_one_seed_gives_the_same_texts_again(seed: int, name: str) -> None:
    assert list(islice(texts(name, seed), 50)) == list(islice(texts(name, seed), 50))


def test_other_seeds_give_other_texts() -> None:
    # As a probe does it: a new seed each time, twenty short texts. A cache must not know them.
    seen: Counter[str] = Counter()
    for seed in range(200):
        seen.update(islice(texts("short", seed), 20))
    assert sum(count - 1 for count in seen.values()) <= 20


def test_texts_are_chinese() -> None:
    for name in CLASSES:
        for text in islice(texts(name, 1), 200):
            assert all("一" <= character <= "鿿" or character in "，。" for character in text), text


def test_the_examples_of_the_article_have_the_lengths_of_their_classes() -> None:
    assert {name: len(text) for name, text in SEED_EXAMPLES.items()} == CLASSES


def test_a_mix_holds_a_third_of_each_class_without_a_repeat() -> None:
    many = list(islice(mix(2), 3000))
    assert len({text.value for text in many}) == 3000
    assert all(900 < count < 1100 for count in Counter(text.length_class for text in many).values())
    assert all(len(text.value) == CLASSES[text.length_class] for text in many)


def test_a_mix_keeps_to_its_weights() -> None:
    assert {text.length_class for text in islice(mix(2, {"long": 1.0}), 100)} == {"long"}
