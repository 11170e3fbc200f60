"""Parts of a measurement do not ask what another part has asked: a cache would answer."""

from __future__ import annotations

from itertools import combinations, islice

from slo.bench.session import Session
from tests.bench.test_load import session


def asked(part: Session) -> set[bytes]:
    return {exchange.body for exchange in islice(part.exchanges(), 300)}


def test_parts_and_parts_of_parts_ask_for_other_texts() -> None:
    """As in `slo capacity`: probes 0 to 4, and the warm-up and the repetition of each."""
    whole = session("http://127.0.0.1:1")
    probes = [whole.reseeded(number) for number in range(5)]
    parts = [whole, *probes, *(probe.reseeded(name) for probe in probes for name in ("warm-up", "again"))]
    texts = [asked(part) for part in parts]
    common = [len(one & other) for one, other in combinations(texts, 2)]
    assert max(common) <= 5  # of 300: short texts of different seeds meet now and then


def test_the_same_part_is_the_same_again() -> None:
    first, second = (session("http://127.0.0.1:1").reseeded(7) for _ in range(2))
    assert asked(first) == asked(second)
    assert first.seed == second.seed == second.workload.seed
