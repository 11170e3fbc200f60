"""A file of own texts: sent as it stands, and nothing twice that a cache would answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from slo.bench.capacity import find_capacity
from slo.bench.conditions import Stopper
from slo.bench.own_texts import OwnTexts, read_texts
from slo.bench.probes import coarse_test, confirmed_probe, rate_probe
from slo.bench.session import Session
from slo.bench.workload import Workload
from slo.errors import ConfigError
from slo.objective import Verdict
from tests.bench.test_load import load, session
from tests.stub_server import StubServer

Start = Callable[..., str]


def own(tmp_path: Path, count: int, *, batch: int = 1) -> OwnTexts:
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"这是第{n}条自己的文本" for n in range(count)), encoding="utf-8")
    return read_texts(path, batch=batch)


def inputs(texts: OwnTexts) -> list[object]:
    return [request.inputs[0] if request.single else request.inputs for request in texts.requests]


@pytest.mark.parametrize(
    ("name", "text"), [("t.txt", "你好\n\n 世界 \r\n"), ("t.jsonl", '"你好"\n\n{"text": "世界"}\n')]
)
def test_they_come_by_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert inputs(read_texts(tmp_path / name)) == ["你好", "世界"]


def test_a_log_of_requests_stays_as_it_is(tmp_path: Path) -> None:
    lines = [
        {"input": ["a", "b"]}, {"input": "c"}, {"input": ["d"]}, {"input": [101, 102]}, {"input": [[1, 2], [3]]},
        {"custom_id": "q7", "body": {"input": "x\u2028y", "model": "m"}},
    ]  # fmt: skip
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    texts = read_texts(path)
    assert inputs(texts) == [("a", "b"), "c", ("d",), (101, 102), ((1, 2), (3,)), "x\u2028y"]
    assert [request.name for request in texts.requests][-2:] == ["line 5", "q7"]


def test_and_goes_out_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"input": ["a", "b"]}\n{"input": [[1, 2], [3]]}\n{"input": ["d"]}\n{"input": [5, 6]}')
    with StubServer() as server:
        to = session(server.endpoint, own=read_texts(path))
        sent = [json.loads(exchange.body)["input"] for exchange in islice(to.exchanges(), 4)]
    assert sent == [["a", "b"], [[1, 2], [3]], ["d"], [5, 6]]


def test_the_id_of_a_table_is_a_name_and_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("q1\t你好\nq2\t世 界\n", encoding="utf-8")
    texts = read_texts(path)
    assert inputs(texts) == ["你好", "世 界"]
    assert [request.name for request in texts.requests] == ["q1", "q2"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.txt", "\n", "holds no texts"),
        ("t.jsonl", "{", ":1: not JSON"),
        ("t.jsonl", '"a"\n{"x": 1}', ":2: holds no text"),
        ("t.jsonl", '{"input": ["a", 1]}', ":1: holds no text"),
        ("t.jsonl", '{"input": []}', ":1: holds no text"),
        ("t.tsv", "a\tb\tc", ":1: 3 columns"),
    ],
)
def test_unusable_files_are_named_by_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_texts(tmp_path / name)


def test_batches_of_the_file_are_not_batched_again(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"input": ["a", "b"]}\n"c"')
    with pytest.raises(ConfigError, match="as they are"):
        read_texts(tmp_path / "t.jsonl", batch=2)
    assert [len(request.inputs) for request in own(tmp_path, 5, batch=2).requests] == [2, 2, 1]


def test_nothing_that_was_sent_is_described(tmp_path: Path) -> None:
    described = Workload(own=own(tmp_path, 3)).describe()
    assert "自己" not in str(described)
    assert described["own_digest"] != Workload(own=own(tmp_path, 4)).describe()["own_digest"]


def test_parts_of_a_measurement_go_on_in_the_file(tmp_path: Path) -> None:
    """The warm-up, and every probe of a search, began with its first line again."""
    whole = session("http://127.0.0.1:1", own=own(tmp_path, 90))
    parts: list[Session] = [whole.reseeded("warm-up"), whole, whole.reseeded(1).reseeded("again")]
    bodies = [exchange.body for part in parts for exchange in islice(part.exchanges(), 30)]
    assert len(set(bodies)) == 90


def test_what_was_sent_before_goes_past_the_cache(tmp_path: Path) -> None:
    to = session("http://127.0.0.1:1", own=own(tmp_path, 3))
    assert [exchange.fresh for exchange in islice(to.exchanges(), 7)] == [False] * 3 + [True] * 4


def test_a_text_that_the_file_repeats_does_so_too(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("a\nb\na\nc")
    to = session("http://127.0.0.1:1", own=read_texts(tmp_path / "t.txt"))
    assert [exchange.fresh for exchange in islice(to.exchanges(), 4)] == [False, False, True, False]


def test_a_small_file_is_computed_all_the_same(program: Start, tmp_path: Path) -> None:
    """With a cache 245 of 245 answers were hits."""
    to = session(program("batch_server.py", "--fixed", 3, "--cache"), own=own(tmp_path, 20))
    run = load(to, rate=80)
    assert run.cached() is None
    assert run.details["conclusion"]["total"] == run.details["sent"]
    assert sum("no-cache" in note for note in run.notes) == 1


def test_a_run_that_a_cache_answered_is_void(program: Start, tmp_path: Path) -> None:
    endpoint = program("batch_server.py", "--fixed", 3, "--cache")
    load(session(endpoint, own=own(tmp_path, 400)), rate=100)
    run = load(session(endpoint, own=own(tmp_path, 400)), rate=100, warmup_s=0)  # another command, the same file
    assert run.verdict is Verdict.UNPROVEN
    assert any("came from a cache" in reason for reason in run.void)
    wished = load(session(endpoint, own=own(tmp_path, 400), zipf=1.0), rate=100, warmup_s=0)
    assert not any("came from a cache" in reason for reason in wished.void)


def test_a_search_asks_nothing_twice(tmp_path: Path) -> None:
    texts = own(tmp_path, 4000)
    with StubServer() as server:
        to = session(server.endpoint, own=texts)
        for part in (1, 2):
            rate_probe(to.reseeded(part), 40, Stopper(), coarse_test(to.objective, 40, least_s=0.5))
        assert max(Counter(server.texts).values()) == 1


def test_a_rate_is_that_of_what_was_computed(program: Start, tmp_path: Path) -> None:
    texts = own(tmp_path, 400).requests
    endpoint = program("batch_server.py", "--fixed", 2, "--cache")
    load(session(endpoint, own=OwnTexts(texts[:100])), rate=100, seconds=1, warmup_s=0)
    to = session(endpoint, own=OwnTexts(texts[60:]))
    run = load(to, rate=100, seconds=2, warmup_s=0)
    hits = run.cached()
    assert hits is not None
    probe = confirmed_probe(run, 100)
    assert probe.computed == pytest.approx(1 - hits.total / run.details["sent"])
    found = find_capacity(lambda rate: replace(probe, load=rate), lambda rate: replace(probe, load=rate), ceiling=20)
    assert found.best == pytest.approx(20 * probe.computed)
