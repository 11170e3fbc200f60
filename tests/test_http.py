"""What is kept of a failure holds none of what was sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.http import LONGEST, complaint_of, without_texts


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"error": {"message": "try later", "type": "overloaded", "code": "rate"}}, "rate", "try later"),
        ({"error": {"message": "try later", "type": "overloaded"}}, "overloaded", "try later"),
        ({"detail": "no such\n model"}, "", "no such model"),
        ({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]}, "missing",
         "['body', 'model'] Field required"),
        ({"error": "plain", "code": 17}, "17", "plain"),
        (["odd"], "", "['odd']"),
        (b"<html>502 Bad Gateway</html>", "", "<html>502 Bad Gateway</html>"),
        (b"", "", ""),
    ],
)  # fmt: skip
def test_code_and_message_of_every_shape(body: object, code: str, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert complaint_of(content) == (code, message)


@pytest.mark.parametrize(
    ("message", "text", "shown"),
    [
        ("cannot embed '今天天气真不错' now", "今天天气真不错", "cannot embed '…' now"),
        ("cannot embed '今天天气…' now", "今天天气真不错，适合出去", "cannot embed '…' now"),
        ("input \\u4eca\\u5929\\u5929\\u6c14 refused", "今天天气真不错", "input … refused"),
        ("bad: 你好", "你好", "bad: …"),
        ("the model is down", "what is a model of the world", "the model is down"),
        ("refused: my secret diary entry", "this is my secret diary entry of today", "refused:…"),
        ("ids [101, 2769, 102] too many", "x", "ids […] too many"),
    ],
)
def test_a_text_is_left_out_whole_in_part_and_escaped(message: str, text: str, shown: str) -> None:
    assert without_texts(message, [text]) == shown


def test_a_secret_is_left_out() -> None:
    assert without_texts("key sk-123 is wrong", [], ["sk-123"]) == "key … is wrong"


@given(st.text("今天气真不错合适出去", min_size=4, max_size=40), st.text("abc ", max_size=10), st.integers(4, 40))
def test_no_four_characters_of_a_text_remain(text: str, around: str, cut: int) -> None:
    shown = without_texts(f"{around}{text[:cut]}{around}", [text])
    assert not any(text[at : at + 4] in shown for at in range(len(text) - 3))
    assert len(shown) <= LONGEST
