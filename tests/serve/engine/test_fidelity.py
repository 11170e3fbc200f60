"""The gate lets through what ranks and points like fp32, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.errors import QuantizeError
from slo.serve.engine.fidelity import Fidelity, Precision, Vectors, choose, compare, spearman

GOOD = Fidelity(mean_cosine=0.999, minimum_cosine=0.99, rank=0.999, texts=100)
BAD = Fidelity(mean_cosine=0.999, minimum_cosine=0.90, rank=0.999, texts=100)


def vectors(noise: float = 0.0) -> Vectors:
    base = np.random.default_rng(1).standard_normal((50, 32)).astype(np.float32)
    return base + noise * np.random.default_rng(2).standard_normal(base.shape).astype(np.float32)


def test_a_copy_is_perfect_whatever_its_length() -> None:
    result = compare(vectors(), 3 * vectors())
    assert result.mean_cosine == pytest.approx(1)
    assert result.minimum_cosine == pytest.approx(1)
    assert result.rank == pytest.approx(1)
    assert result.passes


@pytest.mark.parametrize(
    ("noise", "passes"), [pytest.param(0.01, True, id="rounding"), pytest.param(0.5, False, id="a heavy hand")]
)
def test_noise_is_judged_by_its_size(noise: float, passes: bool) -> None:
    assert compare(vectors(), vectors(noise)).passes is passes


def test_one_spoilt_vector_among_many_fails_the_minimum() -> None:
    spoilt = vectors()
    spoilt[7] = -spoilt[7]
    assert any("minimum cosine" in line for line in compare(vectors(), spoilt).shortfalls)


@pytest.mark.parametrize("value", [pytest.param(float("nan"), id="nan"), pytest.param(float("inf"), id="infinite")])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_value_that_is_not_a_number_fails(value: float) -> None:
    spoilt = vectors()
    spoilt[3, 4] = value
    assert not compare(vectors(), spoilt).passes


@given(st.lists(st.integers(-50, 50), min_size=3, max_size=40).filter(lambda values: len(set(values)) > 1))
def test_rank_correlation_sees_order_only(values: list[int]) -> None:
    left = np.array(values, dtype=np.float64)
    assert spearman(left, left**3 + left) == pytest.approx(1)
    assert spearman(left, -left) == pytest.approx(-1)


def test_rank_correlation_matches_a_worked_example_with_a_tie() -> None:
    # ranks 1 2.5 2.5 4 against 1 3 2 4: covariance 4.5, variances 4.5 and 5
    assert spearman(np.array([1.0, 2, 2, 9]), np.array([1.0, 3, 2, 4])) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)


@pytest.mark.parametrize(
    ("request_", "supported", "results", "chosen", "reason"),
    [
        pytest.param("auto", ("int8", "bf16"), {"int8": GOOD}, "int8", "int8: mean", id="fastest first"),
        pytest.param("auto", ("int8", "bf16"), {"int8": BAD, "bf16": GOOD}, "bf16", "int8 fails", id="falls back once"),
        pytest.param("auto", ("int8", "bf16"), {"int8": BAD, "bf16": BAD}, "fp32", "bf16 fails", id="falls back twice"),
        pytest.param("auto", ("int8",), {"int8": BAD}, "fp32", "minimum cosine 0.9000", id="no bf16 on this CPU"),
        pytest.param("bf16", ("int8", "bf16"), {"bf16": GOOD}, "bf16", "bf16: mean", id="asked for by name"),
        pytest.param("fp32", ("int8",), {}, "fp32", "", id="the reference needs no gate"),
    ],
)
def test_auto_takes_the_fastest_precision_that_passes(
    request_: str, supported: tuple[Precision, ...], results: dict[Precision, Fidelity], chosen: str, reason: str
) -> None:
    choice = choose(request_, supported=supported, measure=results.__getitem__)
    assert choice.precision == chosen
    assert reason in choice.reason
    assert choice.fidelity == results


def test_auto_goes_on_when_a_precision_cannot_be_made() -> None:
    def measure(precision: Precision) -> Fidelity:
        if precision == "int8":
            raise QuantizeError("no such operation")
        return GOOD

    choice = choose("auto", supported=("int8", "bf16"), measure=measure)
    assert choice.precision == "bf16"
    assert "no such operation" in choice.reason


@pytest.mark.parametrize(
    ("request_", "chosen"),
    [
        pytest.param("auto", "bf16", id="auto goes on"),
        pytest.param("int8", "int8", id="asked for by name it is served all the same"),
    ],
)
def test_a_precision_that_gains_nothing_here_is_passed_over(request_: str, chosen: str) -> None:
    slow = {"int8": "int8 takes 87 ms"}
    results: dict[Precision, Fidelity] = {"int8": GOOD, "bf16": GOOD}
    choice = choose(
        request_, supported=("int8", "bf16"), measure=results.__getitem__, no_gain=lambda p: slow.get(p, "")
    )
    assert choice.precision == chosen
    assert ("int8 takes 87 ms" in choice.reason) is (chosen == "bf16")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        pytest.param("int8", "fails its fidelity gate", id="below the gate"),
        pytest.param("bf16", "does not run bf16", id="absent"),
        pytest.param("int4", "unknown precision", id="unknown"),
    ],
)
def test_a_precision_asked_for_by_name_is_never_replaced(request_: str, message: str) -> None:
    only: list[Precision] = ["int8"]
    with pytest.raises(QuantizeError, match=message):
        choose(request_, supported=only, measure=lambda _: BAD)
