"""What is sent: unique unless wished otherwise, in the wished proportions, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from slo.bench.workload import Workload, class_of, parse_mix, read_texts, zipf_ranks
from slo.errors import ConfigError
from slo.texts import CLASSES


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
    assert [item.length_class for item in items] == ["short", "medium", "long"]


@pytest.mark.parametrize(("name", "text"), [("t.txt", "你好\n\n 世界 \n"), ("t.jsonl", '"你好"\n\n{"text": "世界"}\n')])
def test_own_texts_come_by_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_texts(tmp_path / name) == ("你好", "世界")


def test_own_texts_of_openai_requests_are_unrolled(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"input": ["a", "b"]}\n{"input": "c"}\n')
    assert read_texts(tmp_path / "t.jsonl") == ("a", "b", "c")


def test_own_texts_are_sent_in_turn_and_again() -> None:
    sent = [item.texts[0] for item in islice(Workload(own=("a", "b")).items(), 5)]
    assert sent == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize("text", ["", "tiny=1", "short=x", "short=-1", "short=1,short=2", "short=0", "short=inf"])
def test_what_is_no_mix_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mix(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "\n", "holds no texts"),
        ("t.jsonl", "{", ":1: not JSON"),
        ("t.jsonl", '"a"\n{"x": 1}', ":2: holds no text"),
    ],
)
def test_unusable_texts_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_texts(tmp_path / name)


def test_nothing_that_was_sent_is_described() -> None:
    assert "secret" not in str(Workload(own=("secret",)).describe())


def test_replayed_lengths_are_kept_and_no_text_comes_twice() -> None:
    """Cut-off ends of long texts would repeat, and a cache would answer them."""
    lengths = [(n,) for n in (4, 5, 8, 20, 50, 130)] * 500
    found = [text for item in Workload(seed=1).items(lengths) for text in item.texts]
    assert [(len(text),) for text in found] == lengths
    assert len(set(found)) == len(found)
