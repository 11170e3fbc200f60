"""`make faults ARGS="--only kill --minutes 15"`: run the scenarios, print and write the table. Exit 1 if one is off."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.faults import launching, server, watching
from scripts.faults.rig import ROOT, NotSo, Rig, until
from scripts.faults.scenario import Outcome, Scenario, table, written
from slo.errors import SloError
from slo.interrupt import ending

PAGE = ROOT / "docs" / "reliability.md"
ALL: list[Scenario] = [*server.SCENARIOS, *launching.SCENARIOS, *watching.SCENARIOS]


@contextmanager
def disk(keep: Path | None) -> Iterator[Path]:
    """A folder to work in: on a small disk of its own, to be filled, where that is allowed."""
    if keep:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="slo-faults-") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "slo-faults", folder]
        mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
        try:
            yield Path(folder)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", folder], check=False)


def outcome_of(scenario: Scenario, rig: Rig) -> Outcome:
    """Run one; whatever it leaves behind, the next one begins with a server and a watch that are up."""
    for _ in range(5):  # the one before is over for users, too
        until("it serves", rig.served)
        time.sleep(1)
    rig.fresh_watch()
    begun_s = time.monotonic()
    result = Outcome(name=scenario.name, expected=scenario.expected)
    try:
        result.became = scenario.run(rig)
        if not rig.served():
            raise NotSo("it does not serve afterwards")
        if rig.users.wrong:
            raise NotSo(f"{rig.users.wrong} wrong vectors")
    except (NotSo, SloError, OSError, StopIteration) as error:
        result.failure = f"{type(error).__name__}: {error}"
    result.clients, result.gap_s = rig.users.since(begun_s), rig.users.gap_s(begun_s)
    result.alerts, result.seconds = rig.hook.since(begun_s), time.monotonic() - begun_s
    return result


def repaired(rig: Rig) -> None:
    """Up again, after a scenario that was not as expected as well."""
    if rig.watch is None or rig.watch.poll() is not None:
        rig.start_watch()
    if rig.command("--status").returncode:
        rig.command("--restart")


def main() -> int:
    """Exit code 0 when everything was as expected."""
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--only", default="", help="scenarios whose name contains one of these words, comma-separated")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long the random attack lasts")
    parser.add_argument("--rounds", type=int, default=3, help="failing launches, each followed by a good one")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave it there")
    parser.add_argument("--list", action="store_true", help="names only")
    options = parser.parse_args()
    os.environ |= {"FAULTS_MINUTES": str(options.minutes), "FAULTS_ROUNDS": str(options.rounds)}
    words = [word.strip() for word in options.only.split(",")]
    chosen = [scenario for scenario in ALL if any(word in scenario.name for word in words)]
    if options.list:
        print("\n".join(scenario.name for scenario in chosen))
        return 0
    outcomes = []
    with disk(options.keep) as folder, Rig(folder) as rig:
        for scenario in chosen:
            outcome = outcome_of(scenario, rig)
            print(outcome.line(), flush=True)
            outcomes.append(outcome)
            written(PAGE, outcomes, order=[each.name for each in ALL])
            repaired(rig)
    print(table(outcomes))
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    try:
        with ending():  # SIGTERM, too, ends what was started here
            sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped")
