"""Parts of a measurement do not ask what another part has asked: a cache would answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import combinations, islice

import numpy as np
import orjson

from slo.bench.answers import Kept
from slo.bench.session import Session, referred
from tests.bench.test_load import session
from tests.stub_server import Reply, StubServer


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


def test_a_server_that_hangs_is_asked_for_two_references_and_no_more() -> None:
    """Forty-eight, one by one, each until its timeout, would keep whoever pressed Ctrl-C for minutes."""
    vectors = np.ones((1, 4), dtype=np.float32)
    body = orjson.dumps({"model": "queue", "input": "你好"})
    kept = [Kept(n, "short", body, 1, vectors) for n in range(20)]
    with StubServer(lambda _n, _texts: Reply(delay_s=30.0)) as server:
        to = session(server.endpoint)
        to = replace(to, target=replace(to.target, timeout_s=0.3))
        found = asyncio.run(referred(to, kept))
        assert len(server.requests) == 2
    assert (found.compared, found.unverified) == (0, 20)
