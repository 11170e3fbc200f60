"""Bodies and what becomes of them: a table of the bad ones, and no body that breaks the parser."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.clock import ManualClock
from slo.serve.door.problem import Problem
from slo.serve.door.request import MAX_NAME, PATIENCE_S, EmbeddingRequest, TokenIds, model_of, parse, read_json
from slo.settings_serve import LimitsSection

LIMITS = LimitsSection(max_inputs=4)


def parsed(**fields: Any) -> EmbeddingRequest:
    return parse({"model": "m", "input": "x", **fields}, LIMITS)


@pytest.mark.parametrize(
    ("given", "texts"),
    [("你好", ("你好",)), (["a", "b"], ("a", "b")), (7, ("7",)), ([1, 2.5, "x"], ("1", "2.5", "x")), (" ", (" ",))],
    ids=["string", "list", "number", "mixed as stock", "space"],
)
def test_input_becomes_texts(given: Any, texts: tuple[str, ...]) -> None:
    assert parsed(input=given).texts == texts


BAD_FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "no input": ({"input": None}, "input"),
    "empty list": ({"input": []}, "input"),
    "empty string": ({"input": ""}, "input"),
    "empty string in list": ({"input": ["a", ""]}, "input"),
    "token ids of texts": ({"input": [[1, 2], [3]]}, "input"),
    "token ids of a text": ({"input": [1, 2]}, "input"),
    "no token ids": ({"input": [[]]}, "input"),
    "nested deeper": ({"input": [[[1]]]}, "input"),
    "texts in lists": ({"input": [["a"]]}, "input"),
    "null in list": ({"input": ["a", None]}, "input"),
    "bool": ({"input": True}, "input"),
    "bool in list": ({"input": [True]}, "input"),
    "object": ({"input": {"text": "a"}}, "input"),
    "object in list": ({"input": [{"text": "a"}]}, "input"),
    "too many": ({"input": ["a"] * 5}, "input"),
    "model number": ({"model": 5}, "model"),
    "model empty": ({"model": ""}, "model"),
    "model null": ({"model": None}, "model"),
    "encoding": ({"encoding_format": "hex"}, "encoding_format"),
    "encoding list": ({"encoding_format": ["float"]}, "encoding_format"),
    "dimensions zero": ({"dimensions": 0}, "dimensions"),
    "dimensions negative": ({"dimensions": -3}, "dimensions"),
    "dimensions text": ({"dimensions": "64"}, "dimensions"),
    "dimensions bool": ({"dimensions": True}, "dimensions"),
    "dimensions fraction": ({"dimensions": 1.5}, "dimensions"),
    "dimensions huge": ({"dimensions": 10**18}, "dimensions"),
    "truncate text": ({"truncate": "no"}, "truncate"),
    "user list": ({"user": []}, "user"),
    "normalised text": ({"normalize_embeddings": "yes"}, "normalize_embeddings"),
    "prompt number": ({"prompt": 5}, "prompt"),
    "prompt name list": ({"prompt_name": ["query"]}, "prompt_name"),
    "sparse": ({"return_sparse": True}, "return_sparse"),
    "instruction": ({"instruction": "find"}, "instruction"),
    "limit text": ({"truncate_prompt_tokens": "16"}, "truncate_prompt_tokens"),
    "limit bool": ({"truncate_prompt_tokens": True}, "truncate_prompt_tokens"),
    "limit fraction": ({"truncate_prompt_tokens": 1.5}, "truncate_prompt_tokens"),
}


@pytest.mark.parametrize(("fields", "param"), BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as caught:
        parsed(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert orjson.loads(caught.value.body())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u"},
        {"user": None},
        {"foo": {"bar": 1}},
        {"normalize_embeddings": True},
        {"prompt": None, "prompt_name": None, "truncate_prompt_tokens": None, "return_sparse": False},
    ],
    ids=["user", "no user", "unknown", "default asked for", "nulls"],
)
def test_harmless_fields_are_accepted(fields: dict[str, Any]) -> None:
    assert parsed(**fields) == EmbeddingRequest("m", ("x",))


@pytest.mark.parametrize(("given", "texts"), [([65, 66], ("AB",)), ([[65, 66], [67]], ("AB", "C"))], ids=str)
def test_token_ids_are_one_text_a_list(given: Any, texts: tuple[str, ...]) -> None:
    data = {"model": "m", "input": given}
    assert parse(data, LIMITS, lambda ids: "".join(map(chr, ids))).texts == texts


@pytest.mark.parametrize("given", [[15339, 1917], [[15339, 1917]]], ids=str)
def test_both_shapes_of_token_ids_get_the_same_advice(given: Any) -> None:
    with pytest.raises(Problem, match="check_embedding_ctx_length=False") as caught:
        parsed(input=given)
    assert (caught.value.status, caught.value.reason) == (400, "token_ids")


def test_options_are_read() -> None:
    request = parsed(encoding_format="base64", dimensions=64, truncate=False)
    assert (request.base64, request.dimensions, request.truncate) == (True, 64, False)
    request = parsed(normalize_embeddings=False, prompt="", prompt_name="query", truncate_prompt_tokens=-1)
    assert (request.normalise, request.prompt, request.prompt_name, request.limit) == (False, "", "query", -1)
    assert parsed(normalize_embeddings=None).normalise is False, "as in stock"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"model":"\xc3"}',
        b'{"input":"\\ud800"}',
        b"[" * 100_000,
        b"NaN",
    ],
    ids=["empty", "cut", "list", "string", "null", "not utf-8", "bad utf-8", "lone surrogate", "deep", "nan"],
)
def test_what_is_no_json_object_is_a_400(body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        read_json(body)
    assert caught.value.status == 400


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names: Any = st.sampled_from(["model", "input", "encoding_format", "dimensions", "user", "truncate", "prompt", "x"])


@given(st.dictionaries(names, json_values))
def test_every_object_is_a_request_or_a_400(data: dict[str, Any]) -> None:
    try:
        request = parse(data, LIMITS)
    except Problem as problem:
        assert problem.status == 400
        return
    assert request.model == model_of(data)
    assert 1 <= len(request.texts) <= 4
    assert all(isinstance(text, str) and text for text in request.texts)


def test_a_name_too_long_for_any_model_is_unknown_and_not_quoted_in_full() -> None:
    assert model_of({"model": "m" * MAX_NAME}) == "m" * MAX_NAME
    with pytest.raises(Problem) as caught:
        model_of({"model": "m" * (MAX_NAME + 1)})
    assert (caught.value.status, caught.value.reason) == (404, "model_not_found")
    assert len(caught.value.body()) < 400


@given(st.binary(max_size=200))
def test_every_body_is_an_object_or_a_400(body: bytes) -> None:
    try:
        assert isinstance(read_json(body), dict)
    except Problem as problem:
        assert problem.status == 400


class Bytes:
    """A vocabulary of the 256 bytes, as tiktoken's is called."""

    def decode_single_token_bytes(self, token: int) -> bytes:
        if token == 999:
            raise KeyError(token)
        return bytes([token])


def settled(load: Callable[[], Any], clock: ManualClock) -> TokenIds:
    """After a first request, and when the loading has ended."""
    ended, asked = threading.Event(), threading.Event()

    def observed() -> Any:
        asked.wait(60)  # else it may have ended before the first request was answered
        try:
            return load()
        finally:
            ended.set()

    ids = TokenIds(observed, clock.monotonic)
    with pytest.raises(Problem) as caught:
        ids([65])
    asked.set()
    assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "1")
    assert ended.wait(30)
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("Thread-") and "_fetch" in thread.name:
            thread.join(30)
    return ids


def test_ids_are_decoded_once_the_vocabulary_is_there() -> None:
    ids = settled(Bytes, ManualClock())
    assert ids(list("你好".encode())) == "你好"


@pytest.mark.parametrize("bad", [[999], [0xE4, 0xBD], [300], [10**30], []], ids=str)
def test_ids_that_make_no_text_are_a_400(bad: list[int]) -> None:
    ids = settled(Bytes, ManualClock())
    with pytest.raises(Problem) as caught:
        ids(bad)
    assert (caught.value.status, caught.value.param) == (400, "input")


def test_a_vocabulary_that_cannot_be_loaded_is_a_400_that_names_the_clients_switch() -> None:
    def fail() -> Any:
        raise OSError("no network")

    ids = settled(fail, ManualClock())
    with pytest.raises(Problem, match="check_embedding_ctx_length=False") as caught:
        ids([65])
    assert caught.value.status == 400


def test_a_vocabulary_that_never_comes_is_not_waited_for() -> None:
    clock, never = ManualClock(), threading.Event()
    ids = TokenIds(never.wait, clock.monotonic)
    for _ in range(2):
        with pytest.raises(Problem) as caught:
            ids([65])
        assert caught.value.status == 503
    clock.advance(PATIENCE_S)
    with pytest.raises(Problem) as caught:
        ids([65])
    never.set()
    assert caught.value.status == 400
