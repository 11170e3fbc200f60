"""One vector for two texts is wrong, unless no tokenizer tells them apart."""

from __future__ import annotations

import pytest

from slo.distinct import READ, Distinct


def test_a_vector_belongs_to_one_text() -> None:
    distinct = Distinct()
    assert not distinct.is_taken("你好", (1.0, 2.0))
    assert not distinct.is_taken("你好", (1.0, 2.0))
    assert not distinct.is_taken("世界", (1.0, 3.0))
    assert distinct.is_taken("世界", (1.0, 2.0))


@pytest.mark.parametrize("same", ["hello, world", "ＨＥＬＬＯ World", "héllo\n world!", "hello world"])
def test_what_a_tokenizer_may_take_for_one_text_may_have_one_vector(same: str) -> None:
    distinct = Distinct()
    distinct.is_taken("Hello World", (1.0,))
    assert not distinct.is_taken(same, (1.0,))


def test_so_may_texts_that_differ_where_models_read_no_more() -> None:
    distinct = Distinct()
    distinct.is_taken("长" * READ + "一", (1.0,))
    assert not distinct.is_taken("长" * READ + "二", (1.0,))
    assert distinct.is_taken("短" + "长" * READ, (1.0,))
