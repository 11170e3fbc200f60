"""A trace holds times and lengths, never texts, and names the line that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from slo.bench.trace import read_trace, write_trace
from slo.errors import ConfigError

HEADER = '{"format": 1, "kind": "arrivals"}\n'


def test_what_is_written_is_read_back_sorted_and_shifted(tmp_path: Path) -> None:
    write_trace(tmp_path / "t.jsonl", [(12.0, (4,)), (10.0, (20, 20))])
    trace = read_trace(tmp_path / "t.jsonl")
    assert (trace.due_s, trace.chars) == ([0.0, 2.0], [(20, 20), (4,)])
    assert trace.duration_s == 4.0


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "holds no arrivals"),
        (HEADER, "holds no arrivals"),
        ('{"kind": "run"}\n', ":1: not an arrival"),
        (HEADER + "nonsense\n", ":2: not an arrival"),
        (HEADER + '{"t": 1, "chars": [4]}\n{"t": 0, "chars": [4]}\n', ":3: not an arrival: times go back"),
        (HEADER + '{"t": 1, "chars": []}\n', ":2: not an arrival: lengths"),
        (HEADER + '{"t": 1, "chars": [0]}\n', ":2: not an arrival: lengths"),
        (HEADER + '{"t": 1}\n', ":2: not an arrival"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=where):
        read_trace(tmp_path / "t.jsonl")
