"""A scenario, its outcome, and the table in `docs/reliability.md` that the command itself writes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.faults.rig import Rig

HEAD = "| fault | expected | what clients saw | longest gap | alerts | what became of it |\n|---|---|---|---|---|---|\n"
BEGIN, END = "<!-- written by make faults -->", "<!-- end -->"


@dataclass(frozen=True)
class Scenario:
    """`run` does the damage, waits for what is expected, and says what became of it; `NotSo` where it did not."""

    name: str
    expected: str
    run: Callable[[Rig], str]


@dataclass
class Outcome:
    """What happened."""

    name: str
    expected: str
    clients: str = ""
    gap_s: float = 0.0
    alerts: str = ""
    became: str = ""
    failure: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return not self.failure

    def line(self) -> str:
        """For the terminal."""
        return f"{'as expected' if self.good else 'NOT SO':12} {self.name}: {self.clients}; gap {self.gap_s:.1f} s; " \
               f"alerts: {self.alerts}; {self.failure or self.became} ({self.seconds:.0f} s)"  # fmt: skip

    def row(self) -> str:
        """For the page."""
        became = f"**not so**: {self.failure}" if self.failure else self.became
        cells = (self.name, self.expected, self.clients, f"{self.gap_s:.1f} s", self.alerts, became)
        return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |\n"


def table(outcomes: Sequence[Outcome]) -> str:
    """All of them."""
    return HEAD + "".join(outcome.row() for outcome in outcomes)


def written(page: Path, outcomes: Sequence[Outcome], *, order: Sequence[str]) -> None:
    """Put the rows into the page in place of those of the same scenarios; others stay."""
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    former, after = rest.split(END, 1)
    rows = {
        line.split(" | ")[0].removeprefix("| "): line + "\n"
        for line in former.splitlines()
        if re.match(r"\| (?!fault)", line)
    }
    rows |= {outcome.name: outcome.row() for outcome in outcomes}
    said = f"\nOn {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}, {time.strftime('%Y-%m-%d')}.\n\n"
    page.write_text(
        f"{before}{BEGIN}{said}{HEAD}{''.join(rows[name] for name in order if name in rows)}\n{END}{after}",
        encoding="utf-8",
    )
