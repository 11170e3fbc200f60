"""
The small process beside a server that starts it again when it dies: `python -m slo.deploy.keeper STATE_DIR`.

It keeps running what `server.json` says: a launch writes that record, `--stop` and a launch that undoes itself remove
it, and then this process ends. It notices within a second when the main process is gone (Xinference's main process
ends with any of its children but the model's), and within some ten seconds when the API is silent; ends what is left
of the server, and has `slo.deploy.revive` launch it and its model again as they were. A crash loop is slowed down, and
told in the log and by `--status`.

With `--foreground` it is what a service manager or a container runs: SIGTERM and SIGINT stop the server. Without, they
end this process alone. Whoever changes the server holds the state directory's lock; so does this process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from slo.clock import Clock, SystemClock
from slo.deploy import keeper_link
from slo.deploy.exclusive import HALTED_S, SIGNALS, Holder, exclusive
from slo.deploy.process import append_log, ending, kill_instance, log_tail, spawn, stop_instance
from slo.deploy.restarts import CLUSTER_HANG_S, HANG_S, PATIENCE_S, Restarts, SilentChecks, answers
from slo.deploy.state import ServerState, forget_state, halted, processes_of, read_state, write_state
from slo.errors import EnvironmentProblem, StartError, StoreError
from slo.notify import notify

POLL_S = 0.5
CHECK_S, CLUSTER_CHECK_S = 2.0, 10.0
STOP_S, END_LAUNCHER_S = 40.0, 30.0
REVIVER = (sys.executable, "-m", "slo.deploy.revive")
STALL_S = 10.0  # this process itself did not run for so long: nothing follows from what it did not see


class Keeper:
    """One server kept running. `step` does what is due now; it never waits for longer than a health check takes."""

    def __init__(
        self, state_dir: Path, *, foreground: bool, clock: Clock, reviver: Sequence[str] = REVIVER, unit: str = ""
    ) -> None:
        """`reviver` is the command that, given the state directory and an instance, launches that server again."""
        self._state_dir = state_dir
        self._foreground = foreground
        self._reviver = reviver
        self._unit = unit
        self._clock = clock
        self._restarts = Restarts()
        self._api = SilentChecks(HANG_S, clock.monotonic())
        self._cluster = SilentChecks(CLUSTER_HANG_S, clock.monotonic())
        self._known: ServerState | None = None
        self._launcher = 0  # pid of a start under way
        self._launcher_end_s = 0.0  # by when it must have ended
        self._launcher_runs_s = 0.0  # when it was last seen not halted
        self._holder = Holder(clock)
        self._statuses: dict[int, int] = {}  # of children that ended, by pid
        self._why = ""
        self._checked_s = self._cluster_checked_s = self._stepped_s = clock.monotonic()
        self._failure = 0
        self._asked_to_end = False

    def ask_to_end(self, *_: object) -> None:
        """A signal: end at the next step."""
        self._asked_to_end = True

    def hurry(self, *_: object) -> None:
        """A signal: somebody waits for the server; start it now, whatever the pause."""
        if self._restarts.due_s is not None:
            self._restarts.due_s = self._clock.monotonic()

    def run(self) -> int:
        """Keep the server until it is stopped, or this process is told to end; the exit code."""
        going = self.step()  # whoever sees our record may lose the server's: by then it has been read
        self._record()
        notify("READY=1", f"STATUS=keeping the server of {self._state_dir}")
        while going and not self._asked_to_end:
            notify("WATCHDOG=1")
            self._clock.sleep(POLL_S)
            going = not self._asked_to_end and self.step()
        notify("STOPPING=1")
        self._end_launcher()
        if self._asked_to_end and self._foreground:
            self._stop_server()
        keeper_link.forget(self._state_dir)
        return self._failure

    def step(self) -> bool:
        """Look once; False when there is nothing to keep any more."""
        now_s = self._clock.monotonic()
        if now_s - self._stepped_s > STALL_S:
            self._api.begin(now_s)
            self._cluster.begin(now_s)
        self._stepped_s = now_s
        self._collect_children()
        if self._launcher:
            self._await_launcher(now_s)
            return True
        try:
            state = read_state(self._state_dir)
        except StoreError:
            state = None
        if state is None:
            return self._recover_record()
        if self._known is None or state.instance != self._known.instance:
            self._restarts.started(now_s)
            self._api.begin(now_s)
            self._cluster.begin(now_s)
        self._known = state
        if self._failure:
            return False
        if self._restarts.due_s is None:
            self._look(state, now_s)
        elif state.alive:  # somebody else has started it
            self._restarts.started(now_s)
            self._record()
        elif self._restarts.due(now_s):
            self._revive(state)
        return True

    def _look(self, state: ServerState, now_s: float) -> None:
        """Is the server alive, and does it answer?"""
        if not state.alive:
            self._ended(state, self._fate(state.pid), now_s)
        elif now_s - self._checked_s >= CHECK_S:
            self._checked_s = now_s
            live = "/slo/livez" if state.server.get("extension") else "/status"
            silent = ""
            if self._api.record(now_s, answered=answers(state.endpoint, live, timeout_s=PATIENCE_S)):
                silent = "the API did not answer"
            elif self._api.missed == 0 and now_s - self._cluster_checked_s >= CLUSTER_CHECK_S:
                self._cluster_checked_s = now_s
                answered = answers(state.endpoint, "/status", timeout_s=PATIENCE_S)
                if self._cluster.record(now_s, answered=answered):
                    silent = "its cluster process did not answer"
            if silent:
                self._ended(state, f"hangs: {silent} any more", now_s)

    def _ended(self, state: ServerState, why: str, now_s: float) -> None:
        """End what is left of the server, unless somebody is at work on it; note when to start it again."""
        try:
            with exclusive(self._state_dir, wait_s=0.0, clock=self._clock, on_wait=_ignore, holder=self._holder):
                if read_state(self._state_dir) != state:
                    return  # stopped or launched meanwhile
                kill_instance(state.instance, clock=self._clock)
        except (StartError, EnvironmentProblem, StoreError):
            self._api.begin(now_s)  # a launch or a stop is under way: a server is silent then for good reasons
            return
        sentence = f"the server process {state.pid} {why}"
        if not state.launch.get("config", {}).get("server", {}).get("restart", True):
            self._failure = 2  # in the foreground of something that restarts it as a whole
            self._tell(f"{sentence}\n{log_tail(Path(state.log))}")
        elif state.launch.get("ordered"):
            self._restarts.ordered(now_s)
            self._tell("the server was ended to be started anew, which begins now")
            self._record()
        else:
            self._note_death(sentence, now_s)

    def _note_death(self, why: str, now_s: float) -> None:
        pause_s = self._restarts.died(now_s)
        self._why = why
        loop = f", {self._restarts.failures} times in a row" if self._restarts.failures > 1 else ""
        self._tell(f"{why}{loop}; it is started again {f'in {pause_s:g} s' if pause_s else 'now'}")
        self._record()

    def _fate(self, pid: int) -> str:
        """How a process of ours ended, as far as that can be known."""
        self._collect_children()  # it may have ended since this step began
        status = self._statuses.pop(pid, None)
        return "is gone" if status is None else ending(status)

    def _revive(self, state: ServerState) -> None:
        """Begin to launch the server and its model as they were."""
        command = [*self._reviver, str(self._state_dir), state.instance]
        environment = keeper_link.quiet_environment(os.environ)
        try:
            self._launcher = spawn(command, environment=environment, log=Path(state.log))
            self._launcher_runs_s = self._clock.monotonic()
            self._launcher_end_s = self._launcher_runs_s + _launch_limit_s(state)
        except OSError as error:
            self._note_death(f"it cannot be started: {error.strerror}", self._clock.monotonic())

    def _await_launcher(self, now_s: float) -> None:
        status = self._statuses.pop(self._launcher, None)
        if status is None:
            if not halted(self._launcher):
                self._launcher_runs_s = now_s
            # It was stopped by a signal, or all that it waits for has ended by then: it hangs itself.
            if now_s - self._launcher_runs_s > HALTED_S or now_s > self._launcher_end_s:
                os.kill(self._launcher, signal.SIGKILL)
            return
        self._launcher = 0
        if os.WIFSIGNALED(status):
            self._end_half_started()
        if status == 0:
            self._restarts.started(now_s)
            self._api.begin(now_s)
            self._cluster.begin(now_s)
            self._tell("the server is back")
            self._record()
        else:
            self._note_death(f"the start of the server failed ({ending(status)})", now_s)

    def _end_half_started(self) -> None:
        """The start was killed and could undo nothing: a server without its model would pass for one that is back."""
        with (
            suppress(StartError, EnvironmentProblem, StoreError),
            exclusive(self._state_dir, wait_s=0.0, clock=self._clock, on_wait=_ignore),
        ):
            state = read_state(self._state_dir)
            if state is not None and (self._known is None or state.instance != self._known.instance):
                kill_instance(state.instance, clock=self._clock)
                self._known = state  # its end has been counted

    def _recover_record(self) -> bool:
        """The record is gone: stopped, or lost. A server that still runs without one was not stopped by us."""
        known = self._known
        if known is None:
            return False
        try:
            with exclusive(self._state_dir, wait_s=0.0, clock=self._clock, on_wait=_ignore):
                try:
                    if read_state(self._state_dir) is not None:
                        return True
                    if not processes_of(known.instance):
                        return False
                except StoreError:
                    pass  # damaged: whoever stops a server removes its record
                write_state(self._state_dir, known)
        except StartError:
            return True  # at work on it
        except (EnvironmentProblem, StoreError):
            return True
        self._tell("server.json was lost or damaged; it is written again")
        return True

    def _collect_children(self) -> None:
        """Take the exit status of whatever ended below us, so that no zombie stays."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._statuses[pid] = status

    def _end_launcher(self) -> None:
        """A start under way is broken off; it undoes itself."""
        if not self._launcher:
            return
        os.kill(self._launcher, signal.SIGTERM)
        deadline_s = self._clock.monotonic() + END_LAUNCHER_S
        while self._launcher not in self._statuses and self._clock.monotonic() < deadline_s:
            self._clock.sleep(0.1)
            self._collect_children()
        if self._launcher not in self._statuses:
            os.kill(self._launcher, signal.SIGKILL)  # it must not start a server after we have gone

    def _stop_server(self) -> None:
        """In the foreground, our end is the server's."""
        with exclusive(self._state_dir, wait_s=30.0, clock=self._clock, on_wait=_ignore):
            state = read_state(self._state_dir)
            if state is not None:
                stop_instance(state, timeout_s=STOP_S, clock=self._clock)
                forget_state(self._state_dir)

    def _record(self) -> None:
        facts = {
            "pid": os.getpid(), "foreground": self._foreground, "unit": self._unit, "why": self._why,
            "restarts": self._restarts.total, "failures": self._restarts.failures,
            "next_s": None if self._restarts.due_s is None
            else round(self._clock.wall() + self._restarts.due_s - self._clock.monotonic(), 1),
        }  # fmt: skip
        with suppress(StoreError):  # what is told here is in the log as well
            keeper_link.record(self._state_dir, facts)

    def _tell(self, sentence: str) -> None:
        notify(f"STATUS={sentence}")
        if self._foreground:
            sys.stderr.write(f"xinference-slo: {sentence}\n")
        if self._known is not None:
            with suppress(EnvironmentProblem):  # a full disk must not end this process
                append_log(Path(self._known.log), f"keeper: {sentence}", self._clock)


def _launch_limit_s(state: ServerState) -> float:
    """The longest that a start of this server may take, everything that it waits for included."""
    server = state.launch.get("config", {}).get("server", {})
    return float(server.get("start_timeout", 180.0)) + 2 * float(server.get("launch_timeout", 300.0)) + 120.0


def _ignore(_: str) -> None:
    """Nobody is waited for here."""


def main(arguments: list[str], *, reviver: Sequence[str] = REVIVER) -> int:
    """Keep the server of the state directory given, unless somebody does already."""
    state_dir, foreground = Path(arguments[0]), "--foreground" in arguments[1:]
    clock = SystemClock()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    ends = [signal.SIGTERM, signal.SIGINT]
    if foreground and sys.stdin is not None and sys.stdin.isatty():  # a terminal that closes ends what it shows
        ends.append(signal.SIGHUP)
    else:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with keeper_link.alone(state_dir, takes_over=foreground, clock=clock) as first:
        if not first:
            return 0
        keeper_link.adopt_orphans()
        unit = keeper_link.unit_of(os.getpid(), environ=os.environ) if foreground else ""
        keeper = Keeper(state_dir, foreground=foreground, clock=clock, unit=unit, reviver=reviver)
        for number in ends:
            signal.signal(number, keeper.ask_to_end)
        signal.signal(signal.SIGUSR1, keeper.hurry)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by the launcher that has become this process
        return keeper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
