"""What is sent: unique unless asked otherwise, in the proportions asked for, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.bench.baseline import BaselinePlan, run_baseline
from slo.bench.workload import WORKLOADS, Workload, lengths_of, parse_mix, zipf_ranks
from slo.cli.main import cli, run
from slo.client import EmbeddingsClient
from slo.clock import SystemClock
from slo.errors import ConfigError
from slo.objective import Objective, Verdict
from slo.records import run_from_json
from slo.report.table import run_report
from slo.texts import CLASSES, LENGTHS, class_of
from tests.report.test_table import text_of
from tests.stub_server import Reply, StubServer


def texts(mix: str, count: int, **more: Any) -> list[tuple[str, str]]:
    items = islice(Workload(mix=parse_mix(mix), **more).items(), count)
    return [(str(item.texts[0]), item.length_class) for item in items]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("tokens:128", 126, 126), ("chars:20..400", 20, 400), ("chars:20..400:lognormal", 20, 400)],
)
def test_lengths_are_within_their_range_and_texts_unique(name: str, low: int, high: int) -> None:
    found = texts(name, 2000)
    assert len({text for text, _ in found}) == 2000
    assert min(len(text) for text, _ in found) >= low
    assert max(len(text) for text, _ in found) <= high
    assert all(length_class == class_of(len(text)) for text, length_class in found)


def test_a_lognormal_has_its_middle_where_it_should() -> None:
    lengths = sorted(len(text) for text, _ in texts("chars:20..500:lognormal", 4000))
    assert lengths[2000] == pytest.approx(100, rel=0.06)  # the geometric mean of the ends
    uniform = sorted(len(text) for text, _ in texts("chars:20..500:uniform", 4000))
    assert uniform[2000] == pytest.approx(260, rel=0.06)


def test_parts_have_weights_and_one_seed_sends_the_same() -> None:
    counts = Counter(name for _, name in texts("short=3,doc256=1", 4000))
    assert counts["doc256"] == pytest.approx(1000, rel=0.1)
    assert texts("query=4,passage=1", 50, seed=3) == texts("query=4,passage=1", 50, seed=3)
    assert texts("query=4,passage=1", 50, seed=3) != texts("query=4,passage=1", 50, seed=4)


@pytest.mark.parametrize("name", sorted(LENGTHS))
def test_a_class_is_that_of_its_own_length(name: str) -> None:
    assert class_of(LENGTHS[name]) == name
    assert all(len(text) == LENGTHS[name] for text, _ in texts(name, 200))


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_ready_made_workloads_are_mixes(name: str) -> None:
    mix, batch = WORKLOADS[name]
    items = list(islice(Workload(mix=parse_mix(mix), batch=batch).items(), 40))
    assert all(len(item.texts) == batch for item in items)
    assert len({text for item in items for text in item.texts}) == 40 * batch


@pytest.mark.parametrize("text", ["chars:3", "tokens:5", "chars:9..5", "chars:x", "chars:5:gauss", "words:5", "chars:"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_mix(text)


@given(st.integers(4, 3000), st.integers(0, 3000), st.sampled_from(["", ":uniform", ":lognormal"]), st.integers(0, 99))
def test_any_range_gives_lengths_within_it(low: int, more: int, shape: str, seed: int) -> None:
    lengths = lengths_of(f"chars:{low}..{low + more}{shape}")
    assert lengths is not None
    source = random.Random(seed)
    assert all(low <= lengths.draw(source) <= low + more for _ in range(20))


def test_documents_stand_in_the_table_of_a_baseline_and_decide_nothing() -> None:
    def slow_documents(_number: int, asked: list[str]) -> Reply:
        return Reply(status=503) if len(asked[0]) > 300 else Reply()

    plan = BaselinePlan(requests=60, warmup=1, seed=1, pace_s=0.0, documents=("doc128", "doc512"))
    with StubServer(slow_documents) as server, EmbeddingsClient(server.endpoint, "stub") as client:
        found = run_baseline(client, plan, Objective(), server={}, clock=SystemClock())
    again = run_from_json(json.loads(json.dumps(found.to_json())))
    assert again.verdict is Verdict.MET
    verdicts = {summary.name: summary.judgement.verdict for summary in again.summaries()}
    assert verdicts["doc512"] is Verdict.MISSED
    assert {s.name: s.total for s in again.summaries()}["overall"] == 180
    assert "documents apart: doc128 met, doc512 missed" in text_of(run_report(again))


def test_fewer_documents_are_enough() -> None:
    plan = BaselinePlan(requests=400, warmup=20, seed=1, pace_s=0.0, documents=("doc128",))
    counts = Counter(text.length_class for text in plan.measured_texts())
    assert counts == {"short": 400, "medium": 400, "long": 400, "doc128": 100} == plan.counts
    assert Counter(text.length_class for text in plan.warm_texts())["doc128"] == 3


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def slo(*words: str) -> tuple[int, list[dict[str, Any]]]:
        with StubServer() as server:
            fixed = ("load", "--rate", "20", "--duration", "1s", "--warmup", "0", "--model", "stub")
            code = run(cli, [*fixed, "--endpoint", server.endpoint, *words])
            return code, [seen.body for seen in server.requests[1:]]

    return slo


def test_options_say_what_is_sent(load: Any) -> None:
    assert {len(body["input"]) for body in load("--tokens", "128")[1]} == {126}
    assert all(20 <= len(body["input"]) <= 60 for body in load("--chars", "20..60")[1])
    assert {len(body["input"]) for body in load("--workload", "bulk")[1]} == {32}
    assert {len(body["input"]) for body in load("--workload", "bulk", "--batch", "3")[1]} == {3}


@pytest.mark.parametrize(
    "words", [("--tokens", "9", "--chars", "9"), ("--workload", "query", "--mix", "short"), ("--tokens", "x")]
)
def test_contradictions_are_refused(load: Any, words: tuple[str, ...]) -> None:
    assert load(*words)[0] == 2


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
