"""Faults of a launch: interrupted, stopped from elsewhere, halted, failing again and again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from scripts.faults.rig import MODEL, NotSo, Rig, until
from scripts.faults.scenario import Scenario
from slo.deploy.machine import free_port
from slo.deploy.state import processes_of, read_state

STAGES = {"importing": "", "server": "server: importing", "model": "model: c", "verify": "✓ model"}


class Beside:
    """A second server, launched beside that of the rig with a state directory of its own."""

    def __init__(self, rig: Rig) -> None:
        self.folder = rig.folder / "beside"
        if self.folder.exists():  # graphs stay: what is made once need not be made for every stage
            models = self.folder / "state" / "models"
            if models.exists():
                models.rename(rig.folder / "kept")
            shutil.rmtree(self.folder)
        (self.folder / "state").mkdir(parents=True, mode=0o700)
        if (rig.folder / "kept").exists():
            (rig.folder / "kept").rename(self.folder / "state" / "models")
        self.config = self.folder / "slo.yaml"
        self.rig = rig
        self.state_dir = self.folder / "state"
        self.config.write_text(yaml.safe_dump({
            "model": {"path": str(rig.folder / "tiny"), "download": False, "stand_in": "tiny"},
            "server": {"port": free_port("127.0.0.1"), "log": str(self.folder / "model_server.log")},
            "state_dir": str(self.state_dir),
        }), encoding="utf-8")  # fmt: skip

    def arguments(self, *options: str) -> list[str]:
        """The command line of a launch of this one."""
        return [*self.rig.arguments()[:2], "--config", str(self.config), *options]

    def launching(self, stage: str) -> subprocess.Popen[bytes]:
        """A launch that has come to this stage."""
        said = self.folder / "launch.txt"
        with said.open("wb") as output:
            process = subprocess.Popen(self.arguments(), stdout=output, stderr=subprocess.STDOUT, cwd=self.folder)
        if STAGES[stage]:
            until(f"the launch comes to {stage}", lambda: STAGES[stage] in said.read_text(encoding="utf-8"))
        else:
            time.sleep(0.5)
        return process

    def leftovers(self) -> list[str]:
        """What an interrupted launch has left: processes, records, half-made folders."""
        state = read_state(self.state_dir)
        left = [f"process {p.pid}" for p in processes_of(state.instance)] if state else []
        if (self.state_dir / "server.json").exists():
            left.append("server.json")
        hidden = [path for path in self.state_dir.rglob(".*") if path.is_dir()] if self.state_dir.exists() else []
        return left + [path.name for path in hidden]


def interrupted(number: signal.Signals) -> Callable[[Rig], str]:
    """The signal, at each stage."""

    def run(rig: Rig) -> str:
        for stage in STAGES:
            beside = Beside(rig)
            process = beside.launching(stage)
            instance = state.instance if (state := read_state(beside.state_dir)) else ""
            process.send_signal(number)
            code = process.wait(120)
            said = (beside.folder / "launch.txt").read_text(encoding="utf-8")
            if code != 128 + number or "Traceback" in said:
                raise NotSo(f"at {stage}: code {code}, {said[-200:]}")
            if (instance and processes_of(instance)) or beside.leftovers():
                raise NotSo(f"at {stage}: left behind: {beside.leftovers() or 'processes'}")
        return f"at each stage ({', '.join(STAGES)}): code {128 + number}, one line, nothing left"

    return run


def stopped(rig: Rig) -> str:
    """`--stop` from another terminal, at each stage at which a launch can be seen."""
    for stage in list(STAGES)[1:]:
        beside = Beside(rig)
        process = beside.launching(stage)
        done = subprocess.run(beside.arguments("--stop"), capture_output=True, text=True, check=False)
        code = process.wait(120)
        if done.returncode or code != 128 + signal.SIGTERM or beside.leftovers():
            raise NotSo(f"at {stage}: codes {done.returncode}, {code}; {done.stderr[-200:]}; {beside.leftovers()}")
    return f"at each stage ({', '.join(list(STAGES)[1:])}): the launch undid itself, nothing left"


def halted(rig: Rig) -> str:
    """A launch under Ctrl-Z holds the state directory; then the server dies."""
    before = rig.state.instance
    copy = _copy(rig, "halted")
    process = subprocess.Popen(
        rig.arguments("--model-path", str(copy)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=rig.folder
    )
    comm = Path(f"/proc/{process.pid}/comm")
    until("the launch is under way", lambda: comm.read_text(encoding="utf-8").strip() == "slo-launch", 60)
    os.kill(process.pid, signal.SIGSTOP)
    os.kill(rig.state.pid, signal.SIGKILL)
    begun_s = time.monotonic()
    rig.another(before)
    process.wait(60)
    return f"after ten seconds it was told to end; served after {time.monotonic() - begun_s:.1f} s"


def failing(rig: Rig) -> str:
    """Files that fail, then good ones, again and again; users must notice neither."""
    rounds, begun_s = int(os.environ["FAULTS_ROUNDS"]), time.monotonic()
    good = [rig.folder / "tiny", _copy(rig, "other")]
    for number in range(rounds):
        bad = _copy(rig, "bad")
        weights = bad / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: -1000 * (number + 1)])
        done = rig.command("--model-path", str(bad), "--model", MODEL)
        if done.returncode != 2 or not rig.served():
            raise NotSo(f"round {number + 1}: the failing launch ended with {done.returncode}: {done.stderr[-300:]}")
        done = rig.command("--model-path", str(good[(number + 1) % 2]), "--model", MODEL)
        if done.returncode or not rig.served():
            raise NotSo(f"round {number + 1}: the good launch ended with {done.returncode}: {done.stderr[-300:]}")
    rig.launch()
    return (
        f"{rounds} of {rounds} good launches after a failing one; {rig.users.failed(begun_s)} requests failed meanwhile"
    )


def _copy(rig: Rig, name: str) -> Path:
    place = rig.folder / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(rig.folder / "tiny", place)
    return place


SCENARIOS = [
    Scenario("Ctrl-C during a launch", "one line, code 130, all undone", interrupted(signal.SIGINT)),
    Scenario("SIGTERM during a launch", "one line, code 143, all undone", interrupted(signal.SIGTERM)),
    Scenario("--stop during a launch", "the launch is undone first", stopped),
    Scenario("halted launch, then kill -9 of main", "the launch is ended, the server comes back", halted),
    Scenario("launches that fail", "the model serves on; the next launch succeeds", failing),
]
