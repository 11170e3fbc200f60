"""Token ids with a vocabulary that loads at once, late, or never."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from slo.clock import ManualClock
from slo.serve.door.problem import Problem
from slo.serve.door.token_ids import PATIENCE_S, TokenIds


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
