"""Streams: which way a call goes, and that passes of both kinds keep out of each other's way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.line import Line
from slo.serve.engine.packing import Pass
from slo.serve.engine.runtime import PassTime, Runtime
from slo.serve.engine.streams import Streams, after_narrow, after_wide, narrow_is_sooner
from slo.serve.engine.tokens import Tokens

seconds = st.floats(0, 10)
free_times = st.lists(seconds, min_size=1, max_size=8)
WAIT_S = 20.0


@given(free_times, st.lists(seconds, min_size=1, max_size=20), st.lists(seconds, min_size=1, max_size=20))
def test_no_call_is_predicted_to_end_later_than_with_wide_passes_alone(
    free_s: list[float], wide_s: list[float], narrow_s: list[float]
) -> None:
    """Neither this one nor any that follows it: no stream is free later than it would have been."""
    narrow = narrow_is_sooner(free_s, wide_s, narrow_s)
    chosen = after_narrow(free_s, narrow_s) if narrow else after_wide(free_s, wide_s)
    assert all(chosen_s <= usual_s for chosen_s, usual_s in zip(chosen, after_wide(free_s, wide_s), strict=True))
    assert all(chosen_s >= before_s for chosen_s, before_s in zip(chosen, free_s, strict=True))


class Witness:
    """Notes which passes run at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.running: list[str] = []
        self.seen: list[tuple[str, ...]] = []

    def acting(self, name: str, until: threading.Event | None = None) -> Callable[[int], str]:
        return lambda _: self.act(name, until)

    def act(self, name: str, until: threading.Event | None = None) -> str:
        with self._lock:
            self.running.append(name)
            self.seen.append(tuple(self.running))
        if until is not None:
            assert until.wait(WAIT_S)
        with self._lock:
            self.running.remove(name)
        return name


@pytest.fixture
def streams() -> Streams:
    return Streams(2)


def test_narrow_passes_run_at_a_time_on_streams_of_their_own(streams: Streams) -> None:
    both = threading.Barrier(2)

    def act(stream: int) -> int:
        both.wait(WAIT_S)
        return stream

    found = [streams.submit(act, narrow=True) for _ in range(2)]
    assert sorted(future.result(WAIT_S) for future in found) == [0, 1]
    streams.close()


def test_a_wide_pass_runs_alone_and_in_its_turn(streams: Streams) -> None:
    witness, gate = Witness(), threading.Event()
    names = ["first", "wide", "behind", "last"]
    futures = [
        streams.submit(witness.acting(name, gate if name == "first" else None), narrow=name != "wide") for name in names
    ]
    assert not futures[2].done()
    gate.set()
    assert [future.result(WAIT_S) for future in futures] == names
    assert all(len(seen) == 1 for seen in witness.seen if "wide" in seen)
    assert witness.seen[:2] == [("first",), ("wide",)]
    streams.close()


def test_what_a_pass_raises_reaches_its_caller_and_the_stream_goes_on(streams: Streams) -> None:
    def fail(_: int) -> None:
        raise ArithmeticError("a spark flew")

    for narrow in (True, False) * 3:
        with pytest.raises(ArithmeticError, match="spark"):
            streams.submit(fail, narrow=narrow).result(WAIT_S)
    assert streams.submit(lambda _: "fine", narrow=False).result(WAIT_S) == "fine"
    streams.close()


def test_a_cancelled_pass_is_dropped_and_those_behind_it_run(streams: Streams) -> None:
    witness, gate = Witness(), threading.Event()
    first = streams.submit(witness.acting("first", gate), narrow=False)
    dropped = streams.submit(witness.acting("dropped"), narrow=False)
    behind = [streams.submit(witness.acting("behind"), narrow=True) for _ in range(2)]
    assert dropped.cancel()
    gate.set()
    assert [future.result(WAIT_S) for future in (first, *behind)] == ["first", "behind", "behind"]
    assert not any("dropped" in seen for seen in witness.seen)
    streams.close()


class TwoStreams:
    """A forward pass that notes which way it was asked to go."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []
        self.both = threading.Barrier(2)

    def __call__(self, packed: Pass, stream: int | None = None) -> Vectors:
        self.asked.append(stream)
        if stream is not None:
            self.both.wait(WAIT_S)
        return np.repeat(packed.ids[packed.rows[: len(packed.texts)]].astype(np.float32)[:, None], 128, axis=1)


def line(tiny: Path, forward: TwoStreams, timed: Sequence[PassTime]) -> Line:
    def tokenize(texts: Sequence[str]) -> Tokens:
        return Tokens([[ord(text[0])] * len(text) for text in texts], [0] * len(texts))

    runtime = Runtime(read_model(tiny), tokenize, forward, pass_tokens=96, streams=2, fine=True)
    runtime.timed = [each for each in timed for _ in range(200)]
    return Line(runtime)


# A pass with both threads takes 5 ms and 0.10 ms a token, one of a single thread 5 ms and 0.16 ms.
MEASURED = [PassTime(narrow, tokens, 0.005 + tokens * (0.16 if narrow else 0.1) / 1000)
            for narrow in (False, True) for tokens in (20, 160)]  # fmt: skip


async def test_one_text_gets_all_threads_and_many_are_spread_over_the_streams(tiny: Path) -> None:
    forward = TwoStreams()
    served = line(tiny, forward, MEASURED)
    assert (await served.embed(["a" * 40])).tokens == [40]
    assert forward.asked == [None]
    texts = ["b" * 50, "c" * 30, "d" * 40, "e" * 50, "f" * 20]
    answer = await served.embed(texts)
    assert sorted(stream for stream in forward.asked if stream is not None) == [0, 1]
    assert answer.vectors[:, 0].tolist() == [ord(text[0]) for text in texts]
    assert served.tally.narrow == 2
    await asyncio.to_thread(served.close)


async def test_a_failing_narrow_pass_fails_its_call_and_the_next_one_is_served(tiny: Path) -> None:
    forward = TwoStreams()
    served = line(tiny, forward, MEASURED)
    forward.both.abort()
    with pytest.raises(threading.BrokenBarrierError):
        await served.embed(["b" * 90, "c" * 90])
    forward.both.reset()
    assert (await served.embed(["b" * 90, "c" * 90])).tokens == [90, 90]
    await asyncio.to_thread(served.close)
