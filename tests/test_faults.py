"""The table of `make faults`: rows of scenarios that were not run stay, and none is of a scenario that is no more."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings

from scripts.faults.__main__ import ALL, PAGE
from scripts.faults.scenario import BEGIN, END, Outcome, written
from scripts.fuzz.cases import Case, cases


def rows(page: Path) -> list[str]:
    between = page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return [line for line in between.splitlines() if line.startswith("| ") and not line.startswith("| fault")]


def test_a_row_is_replaced_and_others_stay_in_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n{BEGIN}\n{END}\nafter\n", encoding="utf-8")
    written(page, [Outcome("b", "x", became="first"), Outcome("c", "x")], order=["a", "b", "c"])
    written(page, [Outcome("a", "x"), Outcome("b", "x", failure="it | broke\ntwice")], order=["a", "b", "c"])
    assert [row.split(" | ")[0] for row in rows(page)] == ["| a", "| b", "| c"]
    assert "**not so**: it / broke twice" in rows(page)[1]
    assert page.read_text(encoding="utf-8").startswith("# Title\n")
    assert page.read_text(encoding="utf-8").endswith("\nafter\n")


def test_every_row_is_of_a_scenario_and_was_as_expected() -> None:
    found = {row.split(" | ")[0].removeprefix("| "): row for row in rows(PAGE)}
    assert set(found) <= {scenario.name for scenario in ALL}
    assert [row for row in found.values() if "not so" in row] == []


@settings(max_examples=50)
@given(cases())
def test_a_case_is_a_request(case: Case) -> None:
    head, blank, _ = case.data.partition(b"\r\n\r\n")
    assert blank
    assert case.broken or head.split(b"\r\n")[0].endswith((b" HTTP/1.1", b" HTTP/1.0"))
