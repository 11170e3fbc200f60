import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from slo import __version__
from slo.cli.main import COMMANDS, _first_line, cli, run
from slo.errors import ConfigError, Interrupted, Unreachable

HEAVY = {"numpy", "torch", "xinference", "openvino", "plotly", "transformers", "aiohttp", "nncf"}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60, encoding="utf-8"
    )


def loaded_by(code: str) -> set[str]:
    """Which heavy packages are in memory after `code`."""
    done = python("-c", f"{code}\nimport sys; print('LOADED', *sys.modules)")
    assert done.returncode == 0, done.stderr
    return HEAVY & set(done.stdout.rpartition("LOADED")[2].split())


def command(error: BaseException | None = None, code: int | None = None) -> click.Command:
    @click.command()
    def one() -> int | None:
        if error:
            raise error
        return code

    return one


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("odd", hint="do this"), 2, "error: odd\n  → do this\n"),
        (Unreachable("nobody", url="http://h"), 1, "error: nobody\n"),
        (Interrupted("stopped early"), 130, "error: stopped early\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_an_expected_failure_is_a_message_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    assert run(command(error), []) == code
    out, err = capsys.readouterr()
    assert (out, err.lstrip("\n")) == ("", text)


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_code_of_a_command_is_the_exit_code(code: int) -> None:
    assert run(command(code=code), []) == code


def test_a_command_without_a_code_is_done() -> None:
    assert run(command(), []) == 0


def test_an_unexpected_error_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run(command(ZeroDivisionError()), [])


def test_usage_errors_are_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["nonsense"]) == 2
    assert "No such command" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_and_its_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [name, "--help"]) == 0
    assert re.search(rf"Usage: .*{name}", capsys.readouterr().out)


def test_help_lists_every_command() -> None:
    done = python("-m", "slo", "--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("from slo.cli.main import cli, run; run(cli, ['--help'])", id="help"),
        pytest.param("import slo.cli.watch", id="check and watch"),
    ],
)
def test_what_runs_every_minute_stays_light(code: str) -> None:
    assert loaded_by(code) == set()


PRINTING = pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["baseline", "--help"], ["validate"], ["doctor"], ["doctor", "--json"], ["check"]],
    ids=" ".join,
)


def printing_to(stdout: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    endpoint = "http://127.0.0.1:9"
    return subprocess.run(
        [sys.executable, "-m", "slo", *arguments, *(["--endpoint", endpoint] if arguments == ["check"] else [])],
        stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60, text=True, encoding="utf-8",
    )  # fmt: skip


@PRINTING
def test_output_that_nobody_reads_any_more_is_no_error_and_no_missed_objective(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = printing_to(write, arguments)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@PRINTING
def test_a_disk_too_full_for_the_output_is_said_in_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        done = printing_to(full.fileno(), arguments)
    assert (done.returncode, done.stderr) == (2, "error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize(("name", "module"), COMMANDS.items())
def test_the_list_of_commands_says_what_each_says_of_itself(name: str, module: str) -> None:
    """It is read from the sources, so that `slo --help` loads none of them."""
    said = getattr(importlib.import_module(module), name).callback.__doc__ or ""
    assert _first_line(module, name) == said.partition("\n")[0].strip()


def test_help_loads_no_command() -> None:
    """What it takes is then Python's start and click's: below 0.2 s on a machine with nothing else to do."""
    program = "import sys; from slo.cli.main import run, cli; run(cli, ['--help']); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    loaded = {name for name in ast.literal_eval(shown[shown.rindex("[") :]) if name.startswith("slo")}
    assert loaded == {"slo", "slo.cli", "slo.cli.main", "slo.errors", "slo.interrupt"}


def test_the_watch_loads_what_watches_and_nothing_that_deploys_serves_or_measures() -> None:
    done = python("-c", "import sys, slo.cli.watch; print(*(n for n in sys.modules if n.startswith('slo.')))")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {name.split(".")[1] for name in loaded} & {"bench", "deploy", "report", "serve"} == set()
    assert {name for name in loaded if name.startswith("slo.watch.delivery.sinks.")} == {
        f"slo.watch.delivery.sinks.{name}" for name in ("local", "outcome", "secret", "transport", "wording")
    }
