"""What is sent: unique unless wished otherwise, in the wished proportions, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from slo.bench.workload import Workload, parse_mix, zipf_ranks
from slo.errors import ConfigError
from slo.texts import CLASSES, class_of


def test_texts_are_unique_and_have_the_length_of_their_class() -> None:
    items = list(islice(Workload(seed=7).items(), 30_000))
    assert len({item.texts for item in items}) == len(items)
    assert all(len(item.texts[0]) == CLASSES[item.length_class] for item in items)


def test_the_mix_is_kept() -> None:
    mix = parse_mix("short=1,long=3")
    counts = Counter(item.length_class for item in islice(Workload(mix=mix).items(), 8000))
    assert counts["long"] == pytest.approx(6000, rel=0.05)
    assert counts["medium"] == 0


def test_one_seed_sends_one_sequence() -> None:
    first, second, other = (list(islice(Workload(seed=seed).items(), 50)) for seed in (3, 3, 4))
    assert first == second != other


def test_a_batch_holds_texts_of_one_class() -> None:
    for item in islice(Workload(batch=8).items(), 50):
        assert len(set(item.texts)) == 8
        assert {class_of(len(text)) for text in item.texts} == {item.length_class}


def test_zipf_repeats_the_first_texts_most() -> None:
    counts = Counter(item.texts[0] for item in islice(Workload(zipf=1.2, mix=(("long", 1.0),)).items(), 5000))
    top, second = (count for _, count in counts.most_common(2))
    assert top / second == pytest.approx(2**1.2, rel=0.2)
    assert len(counts) < 1500


def test_zipf_ranks_follow_the_law() -> None:
    counts = Counter(islice(zipf_ranks(10, 1.0, seed=1), 100_000))
    harmonic = sum(1 / r for r in range(1, 11))
    for rank in range(10):
        assert counts[rank] == pytest.approx(100_000 / (rank + 1) / harmonic, rel=0.06)


def test_a_trace_gives_the_lengths() -> None:
    items = list(Workload().items([(4,), (20, 3), (777,)]))
    assert [tuple(map(len, item.texts)) for item in items] == [(4,), (20, 3), (777,)]
    assert [item.length_class for item in items] == ["short", "medium", "doc512"]


@pytest.mark.parametrize("text", ["", "tiny=1", "short=x", "short=-1", "short=1,short=2", "short=0", "short=inf"])
def test_what_is_no_mix_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mix(text)


def test_replayed_lengths_are_kept_and_no_text_comes_twice() -> None:
    """Cut-off ends of long texts would repeat, and a cache would answer them."""
    lengths = [(n,) for n in (4, 5, 8, 20, 50, 130)] * 500
    found = [text for item in Workload(seed=1).items(lengths) for text in item.texts]
    assert [(len(text),) for text in found] == lengths
    assert len(set(found)) == len(found)
