"""
The entry point: `slo SUBCOMMAND`, exit codes, and the one place where errors become text.

0 objective met or done · 1 objective missed or outage · 2 usage or set-up · 3 unproven
130 stopped by Ctrl-C, 143 by SIGTERM · 141 whoever read the output has gone (`slo … | head`)
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import TextIO

import click

from slo import __version__
from slo.errors import SloError
from slo.interrupt import Terminated, ending

UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)

# Modules load when their command runs: `slo check` must not pay for plotting or for the server.
COMMANDS: dict[str, str] = {
    "init": "slo.cli.launch_command",
    "launch": "slo.cli.launch_command",
    "stop": "slo.cli.launch_command",
    "status": "slo.cli.launch_command",
    "doctor": "slo.cli.setup",
    "validate": "slo.cli.setup",
    "similarity": "slo.cli.setup",
    "quantize": "slo.cli.quantize_command",
    "models": "slo.cli.models",
    "golden": "slo.cli.record",
    "baseline": "slo.cli.bench",
    "compare": "slo.cli.bench",
    "load": "slo.cli.load_command",
    "record": "slo.cli.record",
    "stress": "slo.cli.load_command",
    "capacity": "slo.cli.capacity_command",
    "plan": "slo.cli.capacity_command",
    "verify": "slo.cli.attest",
    "attest": "slo.cli.attest",
    "check": "slo.cli.watch",
    "watch": "slo.cli.watch",
    "budget": "slo.cli.history_command",
    "replay": "slo.cli.history_command",
    "silence": "slo.cli.history_command",
    "maintenance": "slo.cli.history_command",
    "note": "slo.cli.history_command",
    "top": "slo.cli.top",
    "report": "slo.cli.report",
    "alert": "slo.cli.alert",
    "export": "slo.cli.export",
    "control": "slo.cli.control_command",
}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        with ending(at_once=True):
            command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `slo --help`, read from the sources: running them all would load numpy and more for a line."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _first_line(module, name)) for name, module in COMMANDS.items()])


def _first_line(module: str, name: str) -> str:
    """First line of the docstring of function `name`, without running or parsing `module`; empty where none is."""
    source = Path(__file__).with_name(f"{module.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    _, _, after = source.partition(f"\ndef {name}(")
    return after.partition("\ndef ")[0].partition('"""')[2].partition("\n")[0].removesuffix('"""')


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", prog_name="xinference-slo")
def cli() -> None:
    """Deploy, measure, speed up and watch an embedding model on Xinference.

    \b
    Start with:   slo launch && slo baseline
    Exit codes:   0 objective met or done, 1 missed, 2 usage or set-up error, 3 unproven
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(cli, arguments))


def run(command: click.Command, arguments: list[str] | None = None) -> int:
    """Exit code of `command`; an expected failure is one message on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # in Latin-1 and its like most of what we say has no characters
            stream.reconfigure(errors="backslashreplace")
    stdout = sys.stdout
    try:
        with ending():
            code = _exit_code(command, arguments)
        stdout.flush()  # else Python does it after us, complains, and leaves with 120
    except (OSError, SystemExit) as error:
        # On a closed pipe click and rich leave with 1, which here means that the objective was missed.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, OSError) or cause.errno not in UNWRITABLE:
            raise
        _give_up(stdout)
        if cause.errno == errno.EPIPE:
            _give_up(sys.stderr)
            return 128 + signal.SIGPIPE  # as of a program that the signal ended
        click.echo(f"error: the output cannot be written: {cause.strerror}", err=True)
        return 2
    return code


def _exit_code(command: click.Command, arguments: list[str] | None) -> int:
    try:
        code = command.main(arguments, standalone_mode=False)
    except SloError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt) as stop:  # click makes the one of the other
        click.echo("stopped", err=True)
        return 128 + (signal.SIGTERM if isinstance(stop.__cause__ or stop, Terminated) else signal.SIGINT)
    return code if isinstance(code, int) else 0


def _give_up(stream: TextIO) -> None:
    """Let what `stream` still holds go nowhere: Python would try again at its exit, and complain."""
    try:
        stream.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
