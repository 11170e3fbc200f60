"""The cache: exact, bounded in bytes, least recently used first out, one generation at a time."""

from hypothesis import given
from hypothesis import strategies as st

from slo.serve.door.cache import Cache, Vector
from tests.serve.fakes import packed


def test_gives_back_what_was_put_for_that_text_and_generation_only() -> None:
    cache = Cache(10_000)
    cache.put(1, "你好", packed("你好"))
    assert cache.get(1, "你好") == packed("你好")
    assert cache.get(2, "你好") is None
    assert cache.get(1, "你好 ") is None


def test_forgets_the_least_recently_used_first() -> None:
    one = Cache(10**9)
    one.put(1, "a", packed("a"))
    cache = Cache(one.bytes * 2)
    for text in "ab":
        cache.put(1, text, packed(text))
    assert cache.get(1, "a")  # used now, so b is the oldest
    cache.put(1, "c", packed("c"))
    assert cache.get(1, "b") is None
    assert cache.get(1, "a") == packed("a")
    assert cache.evictions == 1


def test_a_bound_of_zero_keeps_nothing() -> None:
    cache = Cache(0)
    cache.put(1, "a", packed("a"))
    assert not cache.enabled
    assert len(cache) == cache.bytes == 0


def test_what_is_larger_than_the_cache_is_not_kept_and_costs_nothing_else() -> None:
    cache = Cache(2000)
    cache.put(1, "a", packed("a"))
    cache.put(1, "b" * 5000, packed("b"))
    assert cache.get(1, "a") == packed("a")
    assert len(cache) == 1


def test_a_generation_can_be_forgotten_alone() -> None:
    cache = Cache(10_000)
    for generation in (1, 2):
        cache.put(generation, "a", packed("a"))
    cache.forget(1)
    assert cache.get(1, "a") is None
    assert cache.get(2, "a") is not None


@given(
    st.lists(st.tuples(st.integers(1, 2), st.text(max_size=20), st.integers(0, 300)), max_size=80), st.integers(0, 4000)
)
def test_never_exceeds_its_bound_and_counts_its_bytes_right(puts: list[tuple[int, str, int]], bound: int) -> None:
    cache = Cache(bound)
    for generation, text, size in puts:
        cache.put(generation, text, Vector(b"x" * size, 1, False))
        assert cache.bytes <= bound
        assert (cache.bytes == 0) == (len(cache) == 0)
    cache.forget(1)
    cache.forget(2)
    assert cache.bytes == len(cache) == 0
