import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.errors import ConfigError
from slo.units import BYTES, SECONDS, parse_duration, parse_size, show_bytes, show_duration, show_ms, show_ratio


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("150ms", 0.150, id="milliseconds"),
        pytest.param("1h30m", 5400.0, id="compound"),
        pytest.param("1d 12h", 129600.0, id="compound with a space"),
        pytest.param("0.5s", 0.5, id="fraction"),
        pytest.param("30d", 2_592_000.0, id="days"),
        pytest.param("2min", 120.0, id="long minute"),
        pytest.param("250µs", 0.00025, id="microseconds"),
        pytest.param("60", 60.0, id="bare number as text"),
        pytest.param(60, 60.0, id="bare number"),
        pytest.param(" 5m ", 300.0, id="spaces around"),
        pytest.param(0, 0.0, id="zero"),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["", "fast", "5 parsecs", "-5s", -1, "1h-5m", "nan", "inf", math.nan, "5m!", "ms"])
def test_what_is_no_duration_is_refused_with_advice(text: str | float) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_duration(text)
    assert caught.value.hint


@given(st.integers(0, 10**6), st.sampled_from(sorted(SECONDS)))
def test_every_unit_scales_every_count(count: int, unit: str) -> None:
    assert parse_duration(f"{count}{unit}") == pytest.approx(count * SECONDS[unit], rel=1e-12)


@given(st.integers(60, 10**8))
def test_a_shown_duration_reads_back_as_itself(seconds: int) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


@given(st.integers(0, 10**6), st.sampled_from(sorted(BYTES)))
def test_every_size_unit_scales_every_count_in_either_case(count: int, unit: str) -> None:
    assert parse_size(f"{count}{unit}") == parse_size(f"{count} {unit.upper()}") == count * BYTES[unit]


@pytest.mark.parametrize("text", ["", "big", "-1MB", -1, "1.5", "5m", "1 TiB"])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ConfigError):
        parse_size(text)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (8.314, "8.31 ms"),
        (12.34, "12.3 ms"),
        (148.2, "148 ms"),
        (4589.0, "4.59 s"),
        (12_345.0, "12.3 s"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_milliseconds_show_three_figures(milliseconds: float, text: str) -> None:
    assert show_ms(milliseconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        pytest.param(0.987, "98.70 %", id="plain"),
        pytest.param(1.0, "100 %", id="all"),
        pytest.param(0.99999, "99.99 %", id="nearly all is not all"),
        pytest.param(0.0, "0.00 %", id="none"),
        pytest.param(0.95, "95.00 %", id="float error below the last digit"),
        pytest.param(math.nan, "–", id="of nothing"),
    ],
)
def test_a_ratio_never_looks_better_than_it_is(ratio: float, text: str) -> None:
    assert show_ratio(ratio) == text


@pytest.mark.parametrize(
    ("size", "text"), [(512, "512 B"), (1536, "1.5 KiB"), (3 * 2**30, "3.0 GiB"), (2**42, "4096.0 GiB")]
)
def test_sizes_show_in_binary_units(size: int, text: str) -> None:
    assert show_bytes(size) == text
