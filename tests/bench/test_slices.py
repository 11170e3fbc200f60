"""Slices add up to the whole, survive a crash, and tell a leak from noise."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from slo.bench.exchange import Exchange
from slo.bench.slices import FORMAT, KIND, Row, Slice, append_row, memory_slope, read_slices, soak_figures, totals
from slo.bench.soak_record import between_slices
from slo.errors import StoreError
from slo.objective import Objective

GOAL = Objective()
HEADER: Row = {"format": FORMAT, "kind": KIND, "id": "x"}
MIB = 2**20


def exchange(ms: float, *, outcome: str = "ok", cached: bool = False, name: str = "short") -> Exchange:
    made = Exchange(b"", name)
    made.measured, made.due_s, made.sent_s, made.done_s = True, 0.0, 0.0, ms / 1000
    made.outcome, made.cached = outcome, cached
    return made


def row(index: int, latencies: list[float], **more: Any) -> Row:
    piece = Slice(0.0)
    for number, ms in enumerate(latencies):
        piece.observe(exchange(ms, name="short" if number % 2 else "long"), GOAL, lambda _: None)
    return piece.row(index, 300.0, GOAL, peak_in_flight=50, **more)


def test_percentiles_of_a_slice_are_exact_and_counts_add() -> None:
    first, second = row(0, [float(i) for i in range(1, 101)]), row(1, [200.0] * 100)
    assert (first["p50_ms"], first["p95_ms"], first["met"]) == (50.0, 95.0, True)
    assert (second["good"], second["met"]) == (0, False)
    figures = soak_figures([first, second], 50)
    assert (figures["requests"], figures["attainment"], figures["slices_met"]) == (200, 0.5, 0.5)
    assert figures["p95_ms"] == pytest.approx(200, rel=0.006)
    assert figures["worst_slice_p95_ms"] == 200.0
    assert set(totals([first, second])) == {"long", "short", "overall"}


def test_warmup_is_not_heard_and_cached_answers_are_apart() -> None:
    piece = Slice(0.0)
    unmeasured = exchange(10)
    unmeasured.measured = False
    for one in (unmeasured, exchange(10), exchange(1, cached=True), exchange(5, outcome="timeout")):
        piece.observe(one, GOAL, lambda _: None)
    found = piece.row(0, 10.0, GOAL)
    assert (found["total"], found["failed"], found["cached"]["total"]) == (2, {"timeout": 1}, 1)
    assert found["p95_ms"] is None


def test_no_slices_have_no_figures() -> None:
    figures = soak_figures([], 50)
    assert (figures["requests"], figures["attainment"], figures["error_rate"]) == (0, None, None)


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "x.slices.jsonl"
    for line in (HEADER, row(0, [1.0]), row(1, [2.0])):
        append_row(path, line)
    header, rows = read_slices(path)
    assert header == HEADER
    assert [found["index"] for found in rows] == [0, 1]


def test_a_line_that_a_crash_cut_off_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    append_row(path, HEADER)
    append_row(path, row(0, [1.0]))
    with path.open("a") as file:
        file.write('{"index": 1, "sec')
    assert len(read_slices(path)[1]) == 1
    append_row(path, row(1, [1.0]))
    assert [found["index"] for found in read_slices(path)[1]] == [0, 1]


@pytest.mark.parametrize("text", ["", "{}\n", "nonsense\n{}\n", '{"format": 2, "kind": "stress-slices"}\n?\n{}\n'])
def test_what_is_no_soak_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(StoreError):
        read_slices(tmp_path / "x")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        read_slices(tmp_path / "nothing")


def memory(growth: float, seed: int, slices: int = 24) -> bool:
    """Is growth found in slices whose memory rises by `growth` MiB each, with noise of 5 MiB?"""
    r = random.Random(seed)
    rows = [{"seconds": 300.0, "rss": int((1000 + growth * i + r.gauss(0, 5)) * MIB)} for i in range(slices)]
    found = memory_slope(rows)
    assert found is not None
    return bool(found["growing"])


def test_a_leak_is_found_and_noise_is_not() -> None:
    assert fmean(memory(5, seed) for seed in range(50)) == 1.0
    assert fmean(memory(0, seed) for seed in range(50)) <= 0.02


def test_the_slope_is_per_hour() -> None:
    found = memory_slope([{"seconds": 300.0, "rss": 1000 + 10 * i} for i in range(13)])
    assert found is not None
    assert found["bytes_per_hour"] == pytest.approx(120)


def test_the_slope_is_of_pss_where_every_slice_has_it() -> None:
    rows: list[Row] = [{"seconds": 300.0, "rss": 5000, "pss": 1000 + 10 * i} for i in range(13)]
    mixed: list[Row] = [{**rows[0], "pss": None}, *rows[1:]]
    for given, slope in ((rows, 120), (mixed, 0)):
        found = memory_slope(given)
        assert found is not None
        assert found["bytes_per_hour"] == pytest.approx(slope)


def test_few_slices_have_no_slope() -> None:
    assert memory_slope([{"seconds": 300.0, "rss": 1}] * 5) is None
    assert memory_slope([{"seconds": 300.0, "rss": None}] * 50) is None


def halves(bad_slices: int, slices: int = 288) -> list[Row]:
    """Slices of 1000 requests, some of which failed altogether: each weighs as itself, having no variance."""
    return [{"total": 1000, "good": 0 if index < bad_slices else 1000, "effective": 1000.0} for index in range(slices)]


def test_an_outage_of_whole_slices_weighs_as_slices_not_as_requests() -> None:
    assert between_slices(halves(14)) == pytest.approx(288, rel=0.02)
    assert between_slices(halves(0)) == 288_000
    alike: list[Row] = [{"total": 1000, "good": 970, "effective": 1000.0} for _ in range(20)]
    assert between_slices(alike) == 20_000
