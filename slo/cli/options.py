"""Options that several subcommands share, and the configuration they amount to."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console

from slo.client import NO_EXTRAS, EmbeddingsClient, Extras, OwnTraffic
from slo.config import Config, load
from slo.errors import ConfigError
from slo.http import ApiKey, find_api_key
from slo.units import parse_duration

BODY = '{"dimensions": 256}'
BODY_HINT = f"write --extra-body '{BODY}'"
FIXED = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection"})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Command = TypeVar("Command", bound=Callable[..., Any])


class DurationType(click.ParamType):
    """Seconds, from `30s`, `24h` or a bare number."""

    name = "duration"

    def __init__(self, *, above_zero: bool = False) -> None:
        self._above_zero = above_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """What click calls."""
        try:
            seconds = parse_duration(value)
        except ConfigError as error:
            self.fail(f"{error.message}; {error.hint}", param, ctx)
        if self._above_zero and seconds <= 0:
            self.fail("must be above zero", param, ctx)
        return seconds


DURATION = DurationType()


@dataclass(frozen=True)
class Context:
    """What a subcommand works with: the product goes to `out`, everything else to `err`."""

    config: Config
    out: Console
    err: Console
    json: bool
    extras: Extras = NO_EXTRAS
    output: str | None = None  # one of `report.formats`, instead of a table

    def api_key(self) -> ApiKey | None:
        """The key given by the environment or the configured file, else the one that our launch stored."""
        return find_api_key(self.config.client.api_key_file or self.config.state_dir / "api_key")

    def client(self, *, timeout_s: float | None = None, source: OwnTraffic = "bench") -> EmbeddingsClient:
        """A connection to the configured endpoint and model; `timeout_s` instead of the configured one.

        Its requests are marked as our own: `probe` for the watch and its like, `bench` for measurements.
        """
        return EmbeddingsClient(
            self.config.endpoint,
            self.config.model.id,
            api_key=self.api_key(),
            timeout_s=self.config.client.timeout if timeout_s is None else timeout_s,
            source=source,
            extras=self.extras,
        )

    def emit_json(self, data: Any) -> None:
        """Print `data` as the JSON product; NaN and infinity become null."""
        sys.stdout.buffer.write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()


def config_option(command: Command) -> Command:
    """`--config FILE`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file (default: configs/slo.yaml).",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(command)


def measuring_options(command: Command) -> Command:
    """What any measurement may send beside texts, and hold against the answers."""
    for option in (
        click.option("--extra-body", help=f"More fields of each request: '{BODY}'."),
        click.option("--header", "headers", multiple=True, help='Sent with each request: "api-key: …". Repeatable.'),
        click.option(
            "--format",
            "output",
            type=click.Choice(["csv", "junit", "jsonl"]),
            help="Instead of the table: a row per class, a test case per verdict, a line per request.",
        ),
        click.option("--objective", help='Instead of the configured one: "p99 <= 300ms".'),
    ):
        command = option(command)
    return command


def repeat_option(command: Command) -> Command:
    """`--repeat N`."""
    return click.option(
        "--repeat", type=click.IntRange(1, 100), default=1, show_default=True,
        help="So many runs, with other texts each; the verdict is on all, and says how far apart they lie.",
    )(command)  # fmt: skip


def golden_option(command: Command) -> Command:
    """`--golden FILE`."""
    return click.option(
        "--golden", "golden_file", type=click.Path(path_type=Path, dir_okay=False),
        help="Texts with the vectors they must have, from `slo golden`; else exit 1 before anything is measured.",
    )(command)  # fmt: skip


def target_options(command: Command) -> Command:
    """`--endpoint`, `--model` and `--api-key-file`: which server to measure."""
    for option in (
        click.option(
            "--api-key-file", type=click.Path(path_type=Path), help="File with the API key (or set SLO_API_KEY)."
        ),
        click.option("--model", "model_name", help="Model name to ask for."),
        click.option("--endpoint", help="Any OpenAI-compatible server, e.g. http://127.0.0.1:9997 or https://h/x/v1."),
    ):
        command = option(command)
    return command


def context(
    config_path: Path | None = None,
    *,
    as_json: bool = False,
    endpoint: str | None = None,
    model_name: str | None = None,
    api_key_file: Path | None = None,
    headers: tuple[str, ...] = (),
    extra_body: str | None = None,
    output: str | None = None,
    **changes: Any,
) -> Context:
    """Configuration with the options applied; `changes` are further dotted keys, None meaning "not given"."""
    config = load(config_path).replaced(
        **{
            "server.endpoint": endpoint,
            "model.uid": model_name,
            "client.api_key_file": api_key_file,
            **changes,
        }
    )
    extras = extras_of(headers, extra_body)
    return Context(config=config, out=Console(), err=Console(stderr=True), json=as_json, extras=extras, output=output)


def extras_of(headers: tuple[str, ...], extra_body: str | None) -> Extras:
    """The `Name: value` lines and the JSON object. Raises `ConfigError` for what is none, without its value."""
    pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in headers)]
    for name, value in pairs:
        unfit = not _TOKEN.fullmatch(name) or not value or any(ord(c) < 32 or ord(c) == 127 for c in value)
        if unfit or name.lower() in FIXED:
            raise ConfigError("a --header is none, or one that is ours", hint='write --header "X-Team: search"')
    try:
        body = orjson.loads(extra_body or "{}")
    except ValueError as error:
        raise ConfigError(f"--extra-body is not JSON: {error}", hint=BODY_HINT) from error
    if not isinstance(body, dict) or {"model", "input"} & set(body):
        raise ConfigError("--extra-body is no object, or names model or input", hint=BODY_HINT)
    return Extras(tuple(pairs), body)


def given_options() -> set[str]:
    """The options that the command line at hand names."""
    current = click.get_current_context()
    named = click.core.ParameterSource.COMMANDLINE
    return {p.opts[0] for p in current.command.params if current.get_parameter_source(p.name or "") is named}


def repeating(seed: int) -> str:
    """The command line at hand, with the seed that was drawn if none was given."""
    current = click.get_current_context()
    words = ["slo", str(current.info_name)]
    named = given_options()
    for parameter in current.command.params:
        value = current.params.get(parameter.name or "")
        if parameter.opts[0] not in named or parameter.name == "seed":
            continue
        for one in value if isinstance(value, tuple) else (value,):
            words.append(parameter.opts[0])
            if parameter.name == "headers":  # its value may be a secret
                words.append(one.partition(":")[0] + ": …")
            elif not (isinstance(parameter, click.Option) and parameter.is_flag):
                words.append(f"{one:g}" if isinstance(one, float) else str(one))
    return shlex.join([*words, "--seed", str(seed)])
