"""What is said in English is found again in Chinese, whatever stands in its gaps."""

from __future__ import annotations

import re
from string import Formatter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.sentences import SENTENCES, in_chinese, say

GAPS = st.text(min_size=1, max_size=12)


def gaps(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


@pytest.mark.parametrize("name", SENTENCES)
def test_both_languages_have_the_same_gaps(name: str) -> None:
    english, chinese = SENTENCES[name]
    assert gaps(english) == gaps(chinese)
    assert re.search("[\u4e00-\u9fff]", chinese)


@pytest.mark.parametrize("name", SENTENCES)
def test_each_sentence_is_found_again_with_its_values(name: str) -> None:
    values = {gap: f"{index}.5" for index, gap in enumerate(sorted(gaps(SENTENCES[name][0])))}
    assert in_chinese(say(name, **values)) == SENTENCES[name][1].format(**values)


@given(GAPS)
def test_a_gap_may_hold_anything(value: str) -> None:
    assert in_chinese(say("lag", share=value)) == SENTENCES["lag"][1].format(share=value)


def test_what_nobody_said_stays_as_it_is() -> None:
    assert in_chinese("the sky is blue") == "the sky is blue"
    assert in_chinese(say("interrupted", run="run-1") + " and more") == "run-1 was interrupted and more"
