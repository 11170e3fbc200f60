"""The roof counts the model's own products, and only when they were really run in int8."""

from __future__ import annotations

import json

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from scripts.bench_roof import main
from slo.bench.roof import Encoder, Roof, measure_roof, products
from slo.errors import RunError

SMALL = Encoder(hidden=64, wide=256, layers=2)


def test_a_token_of_bert_base_costs_what_the_formula_says() -> None:
    assert Encoder().operations_per_token == pytest.approx(0.1699e9, rel=1e-3)


def test_the_graph_does_exactly_the_operations_that_are_counted() -> None:
    rows, counted = 24, 0
    for node in products(SMALL, rows).get_ordered_ops():
        if node.get_type_name() == "MatMul":
            (m, k), (n, _) = (node.input_value(place).get_shape() for place in (0, 1))
            counted += 2 * m * k * n
    assert counted == SMALL.operations_per_token * rows


def test_values_keep_their_size_through_all_layers() -> None:
    """Values that died out or overflowed would make the products cheaper than real ones."""
    compiled = ov.Core().compile_model(products(Encoder(hidden=64, wide=256, layers=12), 16), "CPU")
    given = np.random.default_rng(1).uniform(-2, 2, (16, 64)).astype(np.float32)
    spread = float(np.std(compiled([given])[0]))
    assert 0.1 < spread < 10


def test_the_products_run_in_int8_and_have_a_rate() -> None:
    found = measure_roof(SMALL, 32, threads=1, hint="f32", seconds=0.1)
    assert found.kernels and all(kernel.lower().endswith("i8") for kernel in found.kernels)
    assert 0 < found.gop_per_s <= found.best_gop_per_s
    assert json.loads(json.dumps(found.to_json()))["rows"] == 32


def test_products_in_another_arithmetic_are_no_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slo.bench.roof.ops.fake_quantize", lambda flow, *_: ops.relu(flow))
    with pytest.raises(RunError, match="not in int8"):
        measure_roof(SMALL, 32, threads=1, hint="f32", seconds=0.1)


def test_requests_are_the_rate_over_what_one_costs() -> None:
    found = Roof(rows=160, threads=2, gop_per_s=645, best_gop_per_s=650, kernels=("I8",), encoder=Encoder())
    assert found.requests_per_s(26.67) == pytest.approx(142.4, abs=0.5)


def test_the_script_gives_the_figures_for_the_performance_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.bench_roof.Encoder", lambda: SMALL)
    assert main(["--rows", "8", "32", "--seconds", "0.05", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["gop_per_s"] == pytest.approx(max(part["gop_per_s"] for part in data["measured"]), abs=0.1)
    assert data["tokens_per_request"] == pytest.approx((6 + 22 + 52) / 3, abs=0.01)
    assert data["requests_per_s"] > 0
