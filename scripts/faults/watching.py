"""Faults of the watch: its process, its files, its clock, and those whom it tells."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from scripts.faults.rig import ROOT, NotSo, Rig, until
from scripts.faults.scenario import Scenario

DAYS = 40
# The clock of the machine belongs to others, too; libfaketime spoils the monotonic clock as well.
OTHER_TIME = """
import sys, time
from pathlib import Path
file, right = Path(sys.argv.pop(1)), time.time
time.time = lambda: right() + float(file.read_text() or 0)
from slo.__main__ import main
main()
"""


def minutes_kept(rig: Rig) -> int:
    """How much the history holds."""
    with sqlite3.connect(f"file:{rig.state_dir / 'history.db'}?mode=ro", uri=True) as history:
        tables = [row[0] for row in history.execute("select name from sqlite_master where type = 'table'")]
        return sum(history.execute(f"select count(*) from {name}").fetchone()[0] for name in tables)  # noqa: S608


def killed(rig: Rig) -> str:
    """kill -9, then started again, as a service manager does it."""
    watch = rig.watching
    kept, alerts = minutes_kept(rig), len(rig.hook.got)
    watch.kill()
    watch.wait()
    rig.start_watch()
    rig.rounds(3)
    if minutes_kept(rig) < kept or len(rig.hook.got) > alerts:
        raise NotSo(f"{kept} rows became {minutes_kept(rig)}; {rig.hook.got[alerts:]}")
    return "the next one goes on with the same history; no alert of its own"


def halted(rig: Rig) -> str:
    """SIGSTOP; a second watch meanwhile; then it goes on."""
    watch = rig.watching
    alerts = len(rig.hook.got)
    os.kill(watch.pid, signal.SIGSTOP)
    second = subprocess.run(
        [sys.executable, "-m", "slo", "watch", "--config", str(rig.config), "--count", "1"],
        capture_output=True, text=True, check=False, timeout=120, cwd=rig.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SLO_WEBHOOK_URL": rig.hook.url},
    )  # fmt: skip
    time.sleep(20)
    os.kill(watch.pid, signal.SIGCONT)
    rig.rounds(3)
    if second.returncode != 2 or str(watch.pid) not in second.stderr:
        raise NotSo(f"the second one ended with {second.returncode}: {second.stderr[-300:]}")
    if fired := [title for _, status, title in rig.hook.got[alerts:] if status == "firing"]:
        raise NotSo(f"a false alarm: {fired}")
    return f"a second one is refused ({second.stderr.strip().splitlines()[-1].strip()}); after SIGCONT it goes on"


def spoilt(rig: Rig) -> str:
    """Every file of the watch with garbage in it, while it is down."""
    rig.end_watch()
    files = [path for path in rig.state_dir.iterdir() if path.is_file() and _of_watch(path)]
    for file in files:
        file.write_bytes(b"\x00garbage{" * 50)
    rig.start_watch()
    rig.rounds(3)
    aside = sorted(path.name for path in rig.state_dir.iterdir() if "damaged" in path.name)
    if "Traceback" in rig.said():
        raise NotSo(f"a traceback: {rig.said()[-300:]}")
    for name in ("history.db", "outbox.db"):
        with sqlite3.connect(f"file:{rig.state_dir / name}?mode=ro", uri=True) as database:
            if database.execute("pragma integrity_check").fetchone()[0] != "ok":
                raise NotSo(f"{name} is still damaged")
    return f"{len(files)} files; set aside: {', '.join(aside) or 'none'}; it goes on"


def _of_watch(path: Path) -> bool:
    return path.name.startswith(("history.db", "outbox.db", "heartbeat", "watch.", "alerts.", "golden"))


def receivers_down(rig: Rig) -> str:
    """The webhook refuses and Alertmanager is not there while an outage begins; the webhook comes back, slowly."""
    begun_s = time.monotonic()
    rig.hook.down = True
    rig.command("--stop")
    try:
        until("the alert is in the file", lambda: '"status":"firing"' in _alerts(rig), 180)
        time.sleep(5)
    finally:
        rig.hook.down, rig.hook.delay_s = False, 3.0
    until("the webhook has it", lambda: any(s == "firing" and t >= begun_s for t, s, _ in rig.hook.got), 180)
    told_s = time.monotonic() - begun_s
    rig.launch()
    until("the all-clear", lambda: any(s == "resolved" and t >= begun_s for t, s, _ in rig.hook.got), 240)
    rig.hook.delay_s = 0.0
    return f"kept in the outbox and in alerts.jsonl, delivered {told_s:.0f} s after the stop; all-clear as well"


def _alerts(rig: Rig) -> str:
    return (rig.state_dir / "alerts.jsonl").read_text(encoding="utf-8", errors="replace")


def clock_stepped(rig: Rig) -> str:
    """The wall clock of the watch is 40 days ahead for some rounds, right again, behind, right again."""
    rig.end_watch()
    kept, alerts = minutes_kept(rig), len(rig.hook.got)
    offset = rig.folder / "offset"
    offset.write_text("0", encoding="ascii")
    rig.start_watch("-c", OTHER_TIME, str(offset))
    for days in (DAYS, 0, -DAYS, 0):
        rig.rounds(3)
        offset.write_text(str(86400 * days), encoding="ascii")
        rig.rounds(5)
    rig.end_watch()
    rig.start_watch()
    if minutes_kept(rig) < kept:
        raise NotSo(f"{kept} rows of history became {minutes_kept(rig)}")
    if fired := [title for _, status, title in rig.hook.got[alerts:] if status == "firing"]:
        raise NotSo(f"a false alarm: {fired}")
    return "forward, back, behind, forward: the history kept every row, no alert"


def read_only(rig: Rig) -> str:
    """The state directory becomes read-only under a running watch and server."""
    place = str(rig.state_dir)
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "--bind", place, place], check=False, capture_output=True).returncode
    ):
        return "not done: needs root, and a mount"
    before = rig.state.instance
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        rig.end_watch()
        done = rig.command("--status")
        refused = subprocess.run(
            [sys.executable, "-m", "slo", "watch", "--config", str(rig.config), "--count", "1"],
            capture_output=True, text=True, check=False, timeout=120, cwd=rig.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SLO_WEBHOOK_URL": rig.hook.url},
        )  # fmt: skip
        stopped = rig.command("--model-path", str(_other(rig)))
    finally:
        subprocess.run(["umount", "-l", place], check=True)
    if done.returncode or "Traceback" in refused.stderr or refused.returncode != 2 or "→" not in refused.stderr:
        raise NotSo(f"--status {done.returncode}; watch {refused.returncode}: {refused.stderr[-300:]}")
    if stopped.returncode != 2 or "→" not in stopped.stderr or rig.state.instance != before:
        raise NotSo(f"a launch ended with {stopped.returncode}: {stopped.stderr[-300:]}")
    rig.start_watch()
    return "serves on; watch and launch are refused with advice; both work again afterwards"


def _other(rig: Rig) -> Path:
    place = rig.folder / "read-only"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(rig.folder / "tiny", place)
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    (place / "config.json").write_text(json.dumps({**config, "note": "another"}), encoding="utf-8")
    return place


SCENARIOS = [
    Scenario("kill -9 of the watch", "the next one goes on; nothing lost, nothing told twice", killed),
    Scenario("SIGSTOP of the watch, a second watch", "the second is refused; no false alarm", halted),
    Scenario("every file of the watch spoilt", "set aside or made anew, told", spoilt),
    Scenario("webhook down, then slow; Alertmanager down", "the alert is kept and delivered", receivers_down),
    Scenario("clock stepped by 40 days, both ways", "no row of history lost, no false alarm", clock_stepped),
    Scenario("state directory read-only", "serves on; what must write is refused with advice", read_only),
]
