"""Other programs read a run: spreadsheets, pipelines, scripts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from slo.cli.main import cli, run
from slo.records import Run
from slo.report.formats import FORMATS, csv_of, jsonl_of, junit_of
from slo.samples import Sample
from tests.report.test_table import a_run, mixed
from tests.stub_server import StubServer


def suite_of(found: Run) -> ET.Element:
    return ET.fromstring(junit_of(found))  # noqa: S314 - written by ourselves


def test_csv_has_a_row_per_class_and_nothing_for_a_failed_percentile() -> None:
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO(csv_of(mixed())))}
    assert list(rows) == ["short", "medium", "long", "overall", "cached"]
    assert rows["short"]["p95_ms"] == ""
    assert float(rows["medium"]["p95_ms"]) == pytest.approx(mixed().summaries()[1].p95_ms, abs=0.001)
    assert (rows["medium"]["verdict"], rows["cached"]["verdict"]) == ("missed", "")


def test_junit_fails_what_is_missed_and_skips_what_is_unproven() -> None:
    suite = suite_of(mixed())
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "3", "1")
    kinds = {str(case.get("name")).rpartition(" ")[2]: [child.tag for child in case] for case in suite}
    assert kinds == {"short": ["skipped"], "medium": ["failure"], "long": ["failure"], "overall": ["failure"]}
    assert not list(suite_of(a_run(1.0)).iter("failure"))


def test_a_void_run_is_skipped_with_its_reason() -> None:
    (case, *_) = suite_of(a_run(1.0, void=["late <& lost"]))
    assert case[0].get("message") == "late <& lost"


def test_an_empty_run_is_one_skipped_case() -> None:
    assert suite_of(a_run(1.0, samples=[])).get("skipped") == "1"


def test_json_lines_are_the_requests() -> None:
    found = a_run(1.0, samples=[Sample(0.5, 0.6, 0.7, "ok", "short"), Sample(1, 1, 2, "timeout", "long")])
    first, second = map(json.loads, jsonl_of(found).splitlines())
    assert (first["latency_ms"], first["service_ms"]) == (200.0, 100.0)
    assert (second["latency_ms"], second["outcome"]) == (None, "timeout")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_option_prints_it_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with StubServer() as server:
        words = ("baseline", "--requests", "5", "--endpoint", server.endpoint, "--model", "stub", "--format", name)
        assert run(cli, list(words)) == 3
    out = capsys.readouterr().out
    assert out.startswith({"csv": "run,class,", "junit": "<testsuite ", "jsonl": '{"due_s"'}[name])
