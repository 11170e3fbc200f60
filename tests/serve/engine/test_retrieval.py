"""nDCG@10 as worked by hand, pairs as people write them, and a gate that remembers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slo.deploy.standin import write_standin
from slo.errors import ConfigError
from slo.serve.engine.fidelity import Fidelity
from slo.serve.engine.loading import RECIPE_NUMBER, Workshop
from slo.serve.engine.retrieval import LEAST_PAIRS, Pairs, ndcg, read_pairs
from slo.texts import texts

GOOD = Fidelity(mean_cosine=0.999, minimum_cosine=0.99, rank=0.999, texts=100)


def unit_vectors(*angles: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.array([[math.cos(angle), math.sin(angle)] for angle in angles], dtype=np.float32)


def test_ndcg_is_as_worked_by_hand() -> None:
    pairs = Pairs(("a", "b", "c"), ("A", "B", "C"))
    # a finds A first; b finds A and then B; c finds B, A, C: 1, 1 / log2(3), 1 / log2(4)
    vectors = unit_vectors(0.0, 0.3, 0.5, 0.1, 0.55, -1.0)
    assert ndcg(pairs, vectors) == pytest.approx((1 + 1 / math.log2(3) + 0.5) / 3)
    assert ndcg(pairs, 7 * vectors) == pytest.approx(ndcg(pairs, vectors)), "whatever the length"


def test_equal_passages_are_one_and_ties_are_no_finds() -> None:
    twice = Pairs(("a", "b"), ("A", "A"))
    assert ndcg(twice, unit_vectors(0.0, 0.1, 0.2, 0.2)) == 1
    tied = Pairs(("a", "b"), ("A", "B"))
    assert ndcg(tied, unit_vectors(0.0, 0.0, 0.2, 0.2)) == pytest.approx(1 / math.log2(3))


def test_what_is_not_among_ten_or_no_number_counts_nothing() -> None:
    count = 11
    pairs = Pairs(tuple(map(str, range(count))), tuple(f"p{n}" for n in range(count)))
    far = unit_vectors(*[0.0] * count, *(0.01 * n for n in range(count)))
    assert ndcg(pairs, far) == pytest.approx(sum(1 / math.log2(n + 2) for n in range(10)) / count)
    assert ndcg(pairs, np.full_like(far, np.nan)) == 0


@pytest.mark.parametrize(
    "line", [pytest.param('{"query": "问", "passage": "答 案"}', id="JSON"), pytest.param("问\t答 案", id="columns")]
)
def test_pairs_are_read_as_lines_or_columns(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pairs"
    file.write_text("\ufeff" + f"{line}\n\n" * LEAST_PAIRS, encoding="utf-8")
    assert read_pairs(file) == Pairs(("问",) * LEAST_PAIRS, ("答 案",) * LEAST_PAIRS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("问\t答\n只有一列\n", "pairs:2: no pair of a query and a passage", id="one column"),
        pytest.param('{"query": "问"}\n', "pairs:1: no pair", id="no passage"),
        pytest.param('{"query": \n', "pairs:1: not JSON", id="broken"),
        pytest.param("问\t答\n", "1 pairs, at least 50 are needed", id="too few"),
        pytest.param("", "0 pairs", id="empty"),
    ],
)
def test_a_file_that_is_none_names_the_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "pairs"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_pairs(file)
    with pytest.raises(ConfigError, match="gone: cannot be read"):
        read_pairs(tmp_path / "gone")


@pytest.mark.parametrize(
    ("ndcg_int8", "passes"),
    [
        pytest.param(0.7955, True, id="0.45 points"),
        pytest.param(0.7940, False, id="0.6 points"),
        pytest.param(0.81, True, id="better"),
        pytest.param(float("nan"), False, id="not a number"),
    ],
)
def test_half_a_point_may_be_lost(ndcg_int8: float, passes: bool) -> None:
    found = replace(GOOD, pairs=600, ndcg=ndcg_int8, ndcg_fp32=0.80)
    assert found.passes is passes
    assert Fidelity.from_json(json.loads(json.dumps(GOOD.to_json()))) == GOOD
    assert GOOD.passes, "without pairs nothing is asked"


def test_a_verdict_is_remembered_and_gentler_recipes_are_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8 finds too little by every recipe: all are tried, the next launch without pairs keeps to bf16 or fp32."""
    write_standin(tmp_path / "model", size="tiny")
    words = texts("short", 3)
    pairs = Pairs(tuple(next(words) for _ in range(60)), tuple(next(words) for _ in range(60)))
    asked: list[Path] = []

    def retrieve(_: Workshop, graph: Path, hint: str, pairs: Pairs) -> dict[str, float]:
        asked.append(graph)
        found = 0.7 if "int8" in graph.parent.name else 0.8
        return {"pairs": len(pairs.queries), "ndcg": found, "ndcg_fp32": 0.8}

    monkeypatch.setattr(Workshop, "_retrieve", retrieve)
    choice = Workshop(tmp_path / "model", tmp_path / "cache").choose("auto", pairs)
    assert choice.precision != "int8"
    assert "nDCG@10 loses 10.00 > 0.5 points" in choice.reason
    again = Workshop(tmp_path / "model", tmp_path / "cache")
    assert (again.artefacts.directory / "int8" / RECIPE_NUMBER).read_text(encoding="ascii") == "2", "the last"
    count = len(asked)
    assert again.choose("auto").precision == choice.precision
    assert len(asked) == count, "remembered"
