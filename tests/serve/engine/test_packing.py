"""Packing keeps order, offsets and caps, whatever the lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.fidelity import Vectors
from slo.serve.engine.packing import FILLING, ROWS_PER_TOKENS, Pass, Shapes, pack, split, spread
from slo.serve.engine.runtime import Runtime
from slo.serve.engine.tokens import Tokens

lengths_lists = st.lists(st.integers(2, 128), min_size=1, max_size=60)
SHAPES = Shapes.up_to(96, 128)


def token_ids(lengths: list[int]) -> list[list[int]]:
    return [[1000 * text + place + 1 for place in range(length)] for text, length in enumerate(lengths)]


@given(lengths_lists, st.integers(8, 400))
def test_every_text_is_in_exactly_one_pass_and_shared_passes_stay_under_the_cap(lengths: list[int], cap: int) -> None:
    passes = split(lengths, cap)
    assert sorted(index for members in passes for index in members) == list(range(len(lengths)))
    assert all(members == sorted(members) for members in passes)
    assert all(sum(lengths[index] for index in members) <= cap for members in passes if len(members) > 1)


@given(lengths_lists, st.integers(8, 400))
def test_no_more_than_twice_the_passes_that_the_tokens_alone_would_need(lengths: list[int], cap: int) -> None:
    shared = [max(length, ROWS_PER_TOKENS) for length in lengths if length <= cap]
    alone = len(lengths) - len(shared)
    assert len(split(lengths, cap)) - alone <= 2 * -(-sum(shared) // cap)


@given(lengths_lists, st.sampled_from([0, 2]))
def test_ids_positions_owners_and_offsets_lead_back_to_the_texts(lengths: list[int], first: int) -> None:
    texts = token_ids(lengths)
    for members in split(lengths, SHAPES.cap):
        packed = pack(texts, members, SHAPES, pooling="cls", first_position=first)
        assert len(packed.ids) == len(packed.positions) == len(packed.owners) in SHAPES.counts
        assert packed.tokens == sum(lengths[index] for index in members)
        assert (packed.owners[packed.tokens :] == FILLING).all()
        for owner, index in enumerate(members):
            own = packed.owners == owner
            assert packed.ids[own].tolist() == texts[index]
            assert packed.positions[own].tolist() == list(range(first, first + lengths[index]))
            assert packed.rows[owner] == np.flatnonzero(own)[0]


def test_mean_pooling_gets_owners_instead_of_offsets() -> None:
    packed = pack(token_ids([3, 5, 2]), [0, 2], SHAPES, pooling="mean")
    assert packed.rows[:2].tolist() == [0, 1]
    assert packed.texts == (0, 2)


@pytest.mark.parametrize(
    ("cap", "longest", "counts"),
    [
        pytest.param(40, 32, (8, 16, 24, 32, 40), id="cap above the longest text"),
        pytest.param(32, 128, (8, 16, 24, 32, 128), id="one long text needs a shape of its own"),
        pytest.param(30, 30, (8, 16, 24, 32), id="rounded up to eights"),
        pytest.param(64, 512, (8, 16, 24, 32, 40, 48, 56, 64, 256, 384, 512), id="coarse above the cap"),
        pytest.param(
            1024,
            512,
            (*range(8, 64, 8), *range(64, 256, 16), 256, 320, 384, 448, 512, 768, 1024),
            id="a GPU's pass",
        ),
    ],
)
def test_shapes_are_few(cap: int, longest: int, counts: tuple[int, ...]) -> None:
    assert Shapes.up_to(cap, longest).counts == counts


@given(st.integers(8, 4000), st.integers(2, 9000))
def test_every_pass_that_splitting_can_make_has_a_shape(cap: int, longest: int) -> None:
    shapes = Shapes.up_to(cap, longest)
    assert shapes.fit(cap, cap // ROWS_PER_TOKENS) >= cap
    assert shapes.fit(longest) >= longest
    assert len(shapes.counts) <= 48


def test_a_pass_beyond_the_largest_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="more than the largest pass"):
        SHAPES.fit(129)


def test_a_long_context_model_warms_up_its_usual_shapes_only(tiny: Path) -> None:
    """A dense mask of 8192 × 8192 and 32 shapes took minutes at every start; a long text brings its own shape."""
    met: list[int] = []

    def forward(packed: Pass) -> Vectors:
        met.append(packed.ids.size)
        return np.zeros((len(packed.texts), 128), np.float32)

    def tokenize(texts: Sequence[str]) -> Tokens:
        return Tokens([[1] * len(text) for text in texts], [False] * len(texts))

    files = replace(read_model(tiny), max_tokens=8192)
    runtime = Runtime(files, tokenize, forward, pass_tokens=160)
    runtime.warm_up()
    assert met == [count for count in runtime.shapes.counts if count <= 512]
    met.clear()
    runtime.embed(["x" * 8192, "x" * 20])
    assert sorted(met) == [24, 8192]
    met.clear()
    Runtime(files, tokenize, forward, pass_tokens=2048).warm_up()  # as on a GPU, where passes are larger
    assert max(met) == 2048


@given(lengths_lists)
def test_in_the_layout_each_place_holds_a_token_of_its_owner_and_each_token_is_found_again(lengths: list[int]) -> None:
    shapes = Shapes.fine(4 * sum(lengths), 128)
    packed = pack(token_ids(lengths), range(len(lengths)), shapes, pooling="cls", laid_out=True)
    tokens = packed.tokens
    places, slots = packed.places.ravel(), packed.slots.ravel()
    used = places != FILLING
    assert (packed.owners[slots[used]] == places[used]).all()
    assert (slots[packed.back[:tokens]] == np.arange(tokens)).all()
    assert used.sum() == tokens
    for owner in range(len(lengths)):  # a text lies in one row of the layout, so that its tokens see each other
        assert len(set(np.nonzero(packed.places == owner)[0].tolist())) == 1


@given(lengths_lists, st.integers(8, 400), st.integers(1, 8))
def test_spread_passes_are_as_many_as_the_streams_and_of_like_size(lengths: list[int], cap: int, streams: int) -> None:
    passes = spread(lengths, cap, streams)
    assert sorted(index for members in passes for index in members) == list(range(len(lengths)))
    sizes = [sum(max(lengths[index], ROWS_PER_TOKENS) for index in members) for members in passes]
    assert all(size <= cap for size, members in zip(sizes, passes, strict=True) if len(members) > 1)
    assert len(passes) == len(lengths) or len(passes) % streams == 0
    assert max(sizes) - min(sizes) <= max(ROWS_PER_TOKENS, *lengths)


@pytest.mark.parametrize("tokens", [(4, 64), (65, 320), (321, 1024)])
def test_fine_shapes_waste_less_than_three_percent(tokens: tuple[int, int]) -> None:
    shapes, sizes = Shapes.fine(160, 1024), range(tokens[0], tokens[1] + 1)
    assert sum(map(shapes.fit, sizes)) <= 1.03 * sum(sizes)
